"""The plug-in contract: a policy says the shape of the retention curve, `Budget` says its size."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autoprune_lab.schedule.curve import Shape


@dataclass(frozen=True)
class Signal:
    """All a policy knows about one sample: the number of decoder layers, and its complexity in bits."""

    n_layers: int
    complexity: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a decoder without layers or a complexity that is not a number."""
        if self.n_layers < 1:
            raise ValueError(f"n_layers={self.n_layers} must be at least 1")
        if not np.isfinite(self.complexity):
            raise ValueError(f"complexity={self.complexity} must be a finite number of bits")


class Policy(ABC):
    """Says the shape of the curve. Subclass as a frozen dataclass: its fields are its hyperparameters.

    `adaptive` tells whether the shape depends on the sample's complexity; where it does not, no
    complexity is computed.
    """

    adaptive: ClassVar[bool] = False

    @abstractmethod
    def shape(self, signal: Signal) -> Shape:
        """One weight per layer: >= 0, never rising with depth, no NaN.

        `Budget` scales every weight that is not `FULL` by one common factor and clips at 1;
        without a budget, min(shape, 1) is the kept fraction itself.
        """


def check_shape(shape: Any, signal: Signal, policy: Policy) -> None:
    """Raise ValueError naming policy, layer and value unless `shape` keeps the contract."""
    if not hasattr(shape, "shape"):
        raise ValueError(f"{policy} gave a {type(shape).__name__}, expected an array of shape ({signal.n_layers},)")
    if shape.shape != (signal.n_layers,):
        raise ValueError(f"{policy} gave a shape of {shape.shape}, expected ({signal.n_layers},)")
    bad = ~(shape >= 0)  # true for NaN as well
    bad[1:] |= shape[1:] > shape[:-1]
    if bad.any():
        layer = int(bad.argmax())
        raise ValueError(f"{policy} gave {shape[layer]} at layer {layer}: weights must be >= 0 and never rise")
