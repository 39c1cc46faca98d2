"""A recovery: what becomes of the tokens that are not among the best."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab import Evidence, Survivors, best


@dataclass(frozen=True)
class KeepSpread:
    """Fill the allowed tokens up with some that are spread evenly over the picture, whatever their scores.

    `share`: part of the allowed tokens that are spread, rounded down, in [0, 1].

    Source: an example; a part that the scores do not choose is arXiv 2412.01818 (VisPruner).
    Differs: VisPruner takes the most unlike tokens, here the place in the picture decides.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside [0, 1]."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share} is outside [0, 1]: it is a part of the allowed tokens")

    def split(
        self, allowed: Int[np.ndarray, "..."], present: Int[np.ndarray, "..."]
    ) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
        """(kept by score, spread); nothing is spread where nothing is dropped."""
        spread = np.where(allowed < present, np.floor(self.share * allowed).astype(allowed.dtype), 0)
        return allowed - spread, spread

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """The `kept` best scored, and `merged` others: the fractional parts of index * golden ratio lie evenly."""
        keep = best(evidence, scores, kept)
        evenly = 1 - (evidence.index.double() * 0.6180339887498949).frac()
        return Survivors(keep | best(evidence, evenly.masked_fill(keep, -1.0), merged))
