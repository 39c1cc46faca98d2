"""HoloV: every part of a picture keeps its share of the tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import in_order, make_all
from autoprune_lab.selection.per_view import rank_within
from autoprune_lab.selection.recovery import Survivors

_SCALE, _WEIGHT, _EPS = 1000.0, 0.09, 1e-6  # the official code's


@dataclass(frozen=True)
class Holov:
    """Share the allowed tokens out among `crops`, runs of tokens as long as one another, by mean attention.

    A crop of score s gets floor(allowed * s / sum of s), the crops of highest scores one more, until all are given;
    within a crop the best scored stay. The score is the crop's mean attention, times 1000 and a weight that is the
    same for all crops but those whose tokens are all alike. A crop that has fewer tokens than its share keeps all; a
    zero vector stands for each one that it lacks, so that fewer tokens stay than are allowed. Scores below 0 are 0.

    `in_place`: tokens keep their places; otherwise they stand crop by crop, the best first where some of the crop go,
    zero vectors behind all, which needs compact positions.

    Source: arXiv 2510.02912, and github.com/obananas/HoloV at 1d2e65e, its zero vectors too.
    Differs: fewer tokens than crops are a crop each; of scores that are all 0 each crop gets as much as the others,
    where the official code fails.
    Order: crops are runs of the sequence.
    """

    crops: int = 16
    in_place: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for less than one crop."""
        if self.crops < 1:
            raise ValueError(f"crops={self.crops} must be >= 1: the tokens are shared out among so many")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """All of what is allowed is shared out, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Share `merged` tokens of each sample out, or keep all where none is merged."""
        real, crop = evidence.vision_mask, self.crop_of(evidence)
        share = self.allocated(self.crop_scores(evidence, scores), evidence.vision_mask.sum(1), merged)
        attention = scores.float().masked_fill(~real, -torch.inf)
        rank = rank_within(attention, crop)
        keep = real & ((rank < share.gather(1, crop)) | (kept > 0)[:, None])
        n_zero = (kept + merged - keep.sum(1))[:, None]
        dropped = real & ~keep
        zero = dropped & (dropped.cumsum(1) <= n_zero)
        hidden = evidence.hidden.masked_fill(zero[..., None], 0.0)
        if self.in_place:
            return Survivors(keep | zero, hidden)
        n, place = crop.shape[1], torch.arange(crop.shape[1], device=crop.device)
        whole = share >= self._sums(crop, real, real.float())
        within = torch.where(zero | whole.gather(1, crop), place, rank)
        order = torch.where((kept > 0)[:, None], place, (crop + zero * self.crops) * n + within)
        return in_order(evidence.index, keep | zero, hidden, order)

    def crop_of(self, evidence: Evidence) -> Int[Tensor, "batch vision"]:
        """Each token's crop, from 0: the first ones are a token longer where they cannot be equal. 0 at padding."""
        real = evidence.vision_mask
        place, n = real.long().cumsum(1) - 1, real.sum(1, keepdim=True)
        size, n_long = n // self.crops, n % self.crops
        first = n_long * (size + 1)  # that many tokens in the longer crops
        crop = torch.where(place < first, place // (size + 1), n_long + (place - first) // size.clamp(min=1))
        return crop.masked_fill(~real, 0)

    def crop_scores(self, evidence: Evidence, scores: Float[Tensor, "batch vision"]) -> Float[Tensor, "batch crops"]:
        """What crops are worth, >= 0; 0 for those without tokens."""
        real, crop = evidence.vision_mask, self.crop_of(evidence)
        size = self._sums(crop, real, real.float())
        mean = self._sums(crop, real, scores.float().clamp(min=0)) / size.clamp(min=1)
        spread = self._sums(crop, real, _spread(evidence, crop, size)) / size.clamp(min=1)
        return torch.where(size > 1, _SCALE * mean * (1 + _WEIGHT * spread / (spread + _EPS)), mean)

    def allocated(
        self, scores: Float[Tensor, "batch crops"], n_vision: Int[Tensor, "batch"], total: Int[Tensor, "batch"]
    ) -> Int[Tensor, "batch crops"]:
        """The share of each crop, `total` together."""
        there = torch.arange(self.crops, device=scores.device) < n_vision[:, None]
        share = (total[:, None] * scores / (scores.sum(1, keepdim=True) + _EPS)).masked_fill(~there, -1.0)
        floor = share.clamp(min=0).floor().long()
        left, n_crops = (total - floor.sum(1))[:, None], there.sum(1, keepdim=True).clamp(min=1)
        rank = share.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return (floor + left // n_crops + (rank < left % n_crops)).masked_fill(~there, 0)

    def _sums(
        self,
        crop: Int[Tensor, "batch vision"],
        real: Bool[Tensor, "batch vision"],
        values: Float[Tensor, "batch vision"],
    ) -> Float[Tensor, "batch crops"]:
        return values.new_zeros(len(crop), self.crops).scatter_add(1, crop, values.masked_fill(~real, 0.0))


def _spread(
    evidence: Evidence, crop: Int[Tensor, "batch vision"], size: Float[Tensor, "batch crops"]
) -> Float[Tensor, "batch vision"]:
    """How much each token's cosines with its crop differ, its own taken for 0: squares about the mean of the others."""
    unit, real = normalize(visual(evidence), dim=-1), evidence.vision_mask
    together = (crop[:, None] == crop[:, :, None]) & real[:, None] & real[:, :, None]
    itself = torch.eye(crop.shape[1], dtype=torch.bool, device=crop.device)
    cosine = (unit @ unit.mT).masked_fill(~together | itself, 0.0)
    others = (size.gather(1, crop) - 1).clamp(min=1)
    mean = cosine.sum(-1) / others
    return ((cosine - mean[..., None]) * together).square().sum(-1) / others
