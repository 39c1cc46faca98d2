"""Keep distinct: a part of the allowed tokens are the best scored, the others the most unlike among the rest."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.recovery import Survivors, best, on_host

_NO_COSINE = -2.0


@dataclass(frozen=True)
class KeepDistinct:
    """Fill the allowed tokens up with those that are left of the rest once its duplicates are gone.

    The rest, the best scored first, is split into every other token and its neighbours; the `step` tokens of the
    first half most like any of the second half, by cosine, go; again, until as many are left as are needed.
    `important`: part of the allowed tokens that the scores choose, rounded down, in [0, 1]. `double`: cosines in
    float64, not float32, so that rounding does not choose between two that are all but equally alike: each choice
    decides what is compared from then on.

    Source: arXiv 2412.01818 (VisPruner); the split and the order of each round as in its official code.
    Differs: VisPruner compares the vision tower's features before the projector, here the hidden states are compared;
    without a [CLS] its scores are attention received, see `scorers.cls_attention`.
    """

    important: float = 0.5
    step: int = 8
    double: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a part outside [0, 1] or a step below one token."""
        if not 0 <= self.important <= 1:
            raise ValueError(f"important={self.important} is outside [0, 1]: it is a part of the allowed tokens")
        if self.step < 1:
            raise ValueError(f"step={self.step} must be >= 1: so many duplicates go in each round")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """`important` of what is allowed is kept by score, unless nothing is dropped."""
        kept = np.where(allowed < present, np.floor(self.important * allowed).astype(allowed.dtype), allowed)
        return kept, allowed - kept

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and `merged` distinct ones of the others."""
        keep = best(evidence, scores, kept)
        left = evidence.vision_mask & ~keep & (merged > 0)[:, None]
        order = scores.masked_fill(~left, -torch.inf).argsort(dim=1, descending=True, stable=True)
        place, cosine = order.argsort(dim=1), _cosines(evidence, left, self.double)
        for _ in range(self._n_rounds(evidence.counts - on_host(kept), on_host(merged))):
            place, left = _round(place, left, cosine, (left.sum(1) - merged).clamp(0, self.step))
        return Survivors(keep | left)

    def _n_rounds(self, rest: Counts, merged: Counts) -> int:
        """Rounds until no sample has more than `merged` of its `rest` left; at most the first half goes in each."""
        left, rounds = np.where(merged > 0, rest, 0), 0
        while (left > merged).any():
            left, rounds = left - np.minimum((left - merged).clip(0, self.step), (left + 1) // 2), rounds + 1
        return rounds


def _round(
    place: Int[Tensor, "batch vision"],
    left: Bool[Tensor, "batch vision"],
    cosine: Float[Tensor, "batch vision vision"],
    n_gone: Int[Tensor, "batch"],
) -> tuple[Int[Tensor, "batch vision"], Bool[Tensor, "batch vision"]]:
    """Places and tokens after a round: the first half, the most like the other half first and gone, then that one."""
    first, second = left & (place % 2 == 0), left & (place % 2 == 1)
    likeness = cosine.masked_fill(~second[:, None], _NO_COSINE).amax(-1).masked_fill(~first, _NO_COSINE - 1)
    rank = likeness.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    gone = first & (rank < n_gone[:, None])
    n_gone = gone.sum(1, keepdim=True)
    n_first = first.sum(1, keepdim=True) - n_gone
    return torch.where(first, rank - n_gone, n_first + place // 2), left & ~gone


def _cosines(
    evidence: Evidence, real: Bool[Tensor, "batch vision"], double: bool
) -> Float[Tensor, "batch vision vision"]:
    """Of `real` tokens only; in float32, or in float64."""
    dtype = torch.float64 if double else torch.float32
    unit = normalize(evidence.hidden.to(dtype).masked_fill(~real[..., None], 0.0), dim=-1)
    return unit @ unit.mT
