"""Spends more on samples that need more; goes with `MeanBudget`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autoprune_lab import Policy, Shape, Signal, logistic


@dataclass(frozen=True)
class ComplexitySpendPolicy(Policy):
    """One logistic curve for all samples, times exp(-gain * complexity): little mutual information, more tokens.

    `gain` is per bit; below 0 it gives more to samples of *much* mutual information. `k0` >= 0 per layer and `x0`, a
    layer, count layers of a 32-layer decoder and are stretched to others. `Budget` scales the factor away: every
    sample then costs the same.

    Source: ours; the curve and "low mutual information: a complex sample" are from arXiv 2509.23931 (AutoPrune).
    Differs: AutoPrune moves a sample's tokens between layers, at the same compute for every sample.
    """

    adaptive: ClassVar[bool] = True
    gain: float = 1.0
    k0: float = 0.4
    x0: float = 14.9

    def __post_init__(self) -> None:
        """Raise ValueError for a negative k0 or what is not finite."""
        if not (self.k0 >= 0 and np.isfinite([self.gain, self.k0, self.x0]).all()):
            raise ValueError(f"{self}: k0 >= 0, all finite")

    def shape(self, signal: Signal) -> Shape:
        """The curve times the sample's factor, kept between e^-300 and e^300."""
        stretch = signal.n_layers / 32
        factor = float(np.exp(np.clip(-self.gain * signal.complexity, -300, 300)))
        return factor * logistic(signal.n_layers, self.k0 / stretch, self.x0 * stretch)
