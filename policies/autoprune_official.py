"""AutoPrune's curve as its official code computes it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autoprune_lab import FULL, Policy, Shape, Signal


@dataclass(frozen=True)
class AutoPruneOfficialPolicy(Policy):
    """0.75 / (1 + exp(k * (i - (x0 + k)))) of the tokens leave layer i >= 1, k = max(k0 - gamma * complexity, 0).

    What leaves layer i enters layer i + 1; layers 0 and 1 are FULL. `k0` >= 0 is per layer, `gamma` per layer
    and bit, `x0` a layer: layers as they are, not stretched to the decoder's depth. `OfficialBudget` makes
    the official schedule of it, `mutual_information_official` is the complexity that the defaults mean.

    Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918, arXiv 2509.23931.
    Differs: `LogisticAdaptivePolicy` is the published idea; the shift of the midpoint by k, the amplitude
    0.75 and the cut at a layer's output stand in the code only.
    """

    adaptive: ClassVar[bool] = True
    k0: float = 0.4
    gamma: float = 0.2
    x0: float = 14.9

    def __post_init__(self) -> None:
        """Raise ValueError for a negative k0 or what is not finite."""
        if not (self.k0 >= 0 and np.isfinite([self.k0, self.gamma, self.x0]).all()):
            raise ValueError(f"{self}: k0 >= 0, all finite")

    @np.errstate(over="ignore")
    def shape(self, signal: Signal) -> Shape:
        """FULL twice, then the logistic of the layer before."""
        k = max(self.k0 - self.gamma * signal.complexity, 0.0)
        leaving = 0.75 / (1 + np.exp(k * (np.arange(1, signal.n_layers - 1) - (self.x0 + k))))
        return np.append([FULL, FULL], leaving)[: signal.n_layers]
