"""Early cut: the more bits a sample has, the earlier its one cut comes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autoprune_lab import FULL, Policy, Shape, Signal


@dataclass(frozen=True)
class EarlyCutPolicy(Policy):
    """One cut, `depth` * exp(-`gain` * complexity) of the decoder deep.

    `depth` is in [0, 1], `gain` >= 0 is per bit. A sample that is simple by the estimator loses its tokens early, and
    the budget then leaves it more of them.

    Source: an example; one cut at a fixed layer is arXiv 2403.06764 (FastV).
    Differs: FastV cuts every sample at the same layer.
    """

    adaptive: ClassVar[bool] = True
    depth: float = 0.25
    gain: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError outside the ranges."""
        if not (0 <= self.depth <= 1 and 0 <= self.gain < np.inf):
            raise ValueError(f"{self}: depth must lie in [0, 1], gain must be >= 0")

    def shape(self, signal: Signal) -> Shape:
        """All tokens before the cut, equal weights from there on."""
        depth = self.depth * np.exp(-self.gain * max(signal.complexity, 0.0))
        return np.where(np.arange(signal.n_layers) < round(depth * signal.n_layers), FULL, 1.0)
