"""A few staircases, and a table that says by a sample's number which of them is its own."""

from dataclasses import dataclass
from typing import ClassVar

from autoprune_lab import Policy, Shape, Signal, staircase


@dataclass(frozen=True)
class StaircaseTablePolicy(Policy):
    """A sample's row in `depths` and `keep` is the number of `edges` that its complexity reaches, 0 for none.

    `edges`: finite, in order, in the estimator's unit. A row: steps in [0, 1], FULL before a first depth above 0; rows
    may differ in length. The defaults' edges part the embedded model's bits at layer 1 into thirds: few, a deep need.

    Source: ours; steps at fractions of the depth: arXiv 2410.17247 (PyramidDrop), one staircase for all samples.
    """

    adaptive: ClassVar[bool] = True
    edges: tuple[float, ...] = (0.054, 0.072)
    depths: tuple[tuple[float, ...], ...] = ((0.0, 0.625), (0.0, 0.4375), (0.0, 0.3125))
    keep: tuple[tuple[float, ...], ...] = ((1.0, 0.1), (1.0, 0.1), (1.0, 0.1))

    def __post_init__(self) -> None:
        """Raise ValueError for edges, depths or keep out of range or order, and for lengths that do not fit."""
        if list(self.edges) != sorted(self.edges) or not all(abs(edge) < 1e9 for edge in self.edges):
            raise ValueError(f"edges={self.edges} must be in order, each between -1e9 and 1e9")
        if not len(self.depths) == len(self.keep) == len(self.edges) + 1:
            raise ValueError(f"{self}: give depths and keep one row more than there are edges")
        for depths, keep in zip(self.depths, self.keep, strict=True):
            if list(depths) != sorted(depths) or not all(0 <= x <= 1 for x in (*depths, *keep)):
                raise ValueError(f"a row with {depths=}, {keep=}: both must lie in [0, 1], depths in order")
            staircase(1, [0] * len(depths), keep)  # raises for unequal lengths and a rising keep

    def shape(self, signal: Signal) -> Shape:
        """The staircase of the sample's row."""
        row = sum(edge <= signal.complexity for edge in self.edges)
        return staircase(signal.n_layers, [round(x * signal.n_layers) for x in self.depths[row]], self.keep[row])
