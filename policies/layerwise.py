"""A few cuts at fixed depths, the same for every sample."""

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune_lab import Policy, Shape, Signal, staircase


@dataclass(frozen=True)
class LayerwisePolicy(Policy):
    """All visual tokens enter before the first cut; from `depths[i]` on, the fraction `keep[i]` of them.

    `depths`: the cuts as fractions of the decoder, in [0, 1] and in order: layer round(depth * n_layers).
    `keep`: in [0, 1], never rising; each counts from the sample's own tokens, not from the stage before.

    Source: arXiv 2410.17247 (PyramidDrop): 8, 16, 24 of 32 layers, halved each time; arXiv 2410.04417
    (SparseVLM): 2, 6, 15 of 32 are depths (0.0625, 0.1875, 0.46875), with one `keep` list a budget.
    """

    depths: Sequence[float] = (0.25, 0.5, 0.75)
    keep: Sequence[float] = (0.5, 0.25, 0.125)

    def __post_init__(self) -> None:
        """Take any sequence; raise ValueError outside [0, 1], out of order, or for unequal lengths."""
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "keep", tuple(self.keep))
        if list(self.depths) != sorted(self.depths) or not all(0 <= x <= 1 for x in (*self.depths, *self.keep)):
            raise ValueError(f"{self}: depths and keep must lie in [0, 1], depths in order")
        self.shape(Signal(n_layers=1))  # raises for unequal lengths and a rising keep

    def shape(self, signal: Signal) -> Shape:
        """FULL before the first cut, then one step a stage."""
        layers = [round(depth * signal.n_layers) for depth in self.depths]
        return staircase(signal.n_layers, layers, self.keep)
