"""A staircase between two, one for small numbers and one for large ones, by where a sample's number lies."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autoprune_lab import Policy, Shape, Signal, staircase


@dataclass(frozen=True)
class StaircaseBlendPolicy(Policy):
    """`depths[0]`, `keep[0]` up to a complexity of `low`; `depths[1]`, `keep[1]` from `high` on; in between, between.

    `low` < `high`: finite, in the estimator's unit. Two rows of equally many steps in [0, 1], FULL before a first depth
    above 0. The first is the deep one by default, for bits at layer 1 of the embedded model: few mean a deep need.

    Source: ours; steps at fractions of the depth: arXiv 2410.17247 (PyramidDrop), one staircase for all samples.
    """

    adaptive: ClassVar[bool] = True
    low: float = 0.04
    high: float = 0.085
    depths: tuple[tuple[float, ...], ...] = ((0.0, 0.625), (0.0, 0.25))
    keep: tuple[tuple[float, ...], ...] = ((1.0, 0.1), (1.0, 0.1))

    def __post_init__(self) -> None:
        """Raise ValueError for fields out of range or order, and for lengths that do not fit."""
        if not -1e9 < self.low < self.high < 1e9:
            raise ValueError(f"low={self.low} must be below high={self.high}, both between -1e9 and 1e9")
        if not len(self.depths) == len(self.keep) == 2 or len({len(row) for row in self.depths + self.keep}) > 1:
            raise ValueError(f"{self}: give depths and keep two rows each, all of one length")
        if not (np.diff(np.array((self.depths, 1 - np.array(self.keep))), prepend=0, append=1) >= 0).all():
            raise ValueError(f"{self}: depths and keep must lie in [0, 1], depths in order, keep never rise")

    def shape(self, signal: Signal) -> Shape:
        """The rows' mean, weighted by how near the number is to `low` and to `high`."""
        way = np.clip((signal.complexity - self.low) / (self.high - self.low), 0, 1)
        depths, keep = ((1 - way) * np.array(first) + way * np.array(last) for first, last in (self.depths, self.keep))
        return staircase(signal.n_layers, [round(x * signal.n_layers) for x in depths], keep.tolist())
