"""AutoPrune: a logistic curve whose slope and midpoint follow each sample's complexity."""

from dataclasses import dataclass
from typing import ClassVar

from autoprune_lab import Policy, Shape, Signal, logistic


@dataclass(frozen=True)
class LogisticAdaptivePolicy(Policy):
    """slope = max(k0 - gamma * complexity, 0), midpoint = x0 + x_gamma * complexity.

    Both count layers of a 32-layer decoder and are stretched to others: `k0` >= 0 per layer, `gamma` per
    layer and bit, `x0` a layer, `x_gamma` layers per bit. `floor` in [0, 1]: a tail under which no layer
    falls. Much mutual information means a simple sample, and a flatter curve.

    Source: arXiv 2509.23931 (AutoPrune); defaults and slope of its official code, which fixes the midpoint.
    Differs: the official midpoint is x0 + slope; `x_gamma`, `floor` and the stretching are not in the code.
    """

    adaptive: ClassVar[bool] = True
    k0: float = 0.4
    gamma: float = 0.2
    x0: float = 14.9
    x_gamma: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for a negative k0, a floor outside [0, 1], or what is not finite."""
        if not (self.k0 >= 0 and 0 <= self.floor <= 1 and all(abs(v) < 1e9 for v in vars(self).values())):
            raise ValueError(f"{self}: k0 >= 0, floor in [0, 1], all finite")

    def shape(self, signal: Signal) -> Shape:
        """The logistic curve, lifted to end at `floor`."""
        stretch = signal.n_layers / 32
        slope = max(self.k0 - self.gamma * signal.complexity, 0.0) / stretch
        midpoint = (self.x0 + self.x_gamma * signal.complexity) * stretch
        return self.floor + (1 - self.floor) * logistic(signal.n_layers, slope, midpoint)
