"""PruMerge: the tokens that [CLS] looks at most, each with what its nearest neighbours add to it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Groups, make_all, rows_of
from autoprune_lab.selection.recovery import Survivors, best, on_host

_LAST = -1  # keys and attention are the last tower layer's, whichever the decoder reads
_AT_ONCE = 64  # numbers of outliers that are tried together


@dataclass(frozen=True)
class WideAttention:
    """Attention of [CLS] in a layer of the vision tower, taken for a single head over the whole width; in [0, 1].

    Source: github.com/42Shawn/LLaVA-PruMerge at 097c041 (arXiv 2403.15388), which has no heads, of the last layer.
    Differs: without a [CLS] this is attention received, see `scorers.cls_attention`; where patches are merged into a
    token, their mean.
    """

    layer: int = _LAST

    @property
    def tower_layers(self) -> tuple[int, ...]:
        """The layer must be kept."""
        return (self.layer,)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """See `Evidence.wide_attention`."""
        return evidence.wide_attention(self.layer)


@dataclass(frozen=True)
class Prumerge:
    """Each of the best tokens but one gains its `neighbours` times their attention; the last is such a sum of the rest.

    A token's neighbours are the others, kept ones too, whose keys are most like its own by cosine; fewer than that many
    tokens: all of them. Attention is `WideAttention`, keys are of the same layer. Nothing is divided by the weights.
    One allowed token is the sum of all. `in_place`: tokens stay in their places, the sum in that of the best of the
    rest; otherwise they stand best first, which needs compact positions.

    Source: github.com/42Shawn/LLaVA-PruMerge at 097c041, token_prune_merge_advanced (arXiv 2403.15388).
    Differs: PruMerge keeps as many as there are outliers of attention (see `outliers`), here the plan says how many;
    its features before the projector are summed, here the hidden states; pictures of one prompt share the allowance.
    """

    neighbours: int = 32
    in_place: bool = False
    tower_layers: ClassVar[tuple[int, ...]] = (_LAST,)

    def __post_init__(self) -> None:
        """Raise ValueError for less than one neighbour."""
        if self.neighbours < 1:
            raise ValueError(f"neighbours={self.neighbours} must be >= 1: they are what a token gains")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """Every token that stays is a made one, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Make `merged` tokens of each sample."""
        keep, n_made = best(evidence, scores, kept), int(on_host(merged).max(initial=0))
        if not n_made:
            return Survivors(keep)
        real = evidence.vision_mask
        weights = evidence.wide_attention(_LAST).float().masked_fill(~real, 0.0)
        scores = scores.masked_fill(~real, -torch.inf)
        slots = self._ranking(scores, weights, real, merged - 1)[:, :n_made]
        made = torch.arange(n_made, device=slots.device)
        centre, last = made < (merged - 1)[:, None], made == (merged - 1)[:, None]
        gains = self._neighbours(evidence, slots, real) & centre[..., None]
        taken = torch.zeros_like(gains[:, 0]).scatter(1, slots, centre)
        gains |= last[..., None] & (real & ~taken)[:, None]
        points = visual(evidence)
        tokens = rows_of(points, slots) * centre[..., None] + (gains * weights[:, None]) @ points
        return Groups(slots, centre | last, tokens).among(evidence, keep, self.in_place)

    def _ranking(
        self,
        scores: Float[Tensor, "batch vision"],
        weights: Float[Tensor, "batch vision"],
        real: Bool[Tensor, "batch vision"],
        wanted: Int[Tensor, "batch"],
    ) -> Int[Tensor, "batch vision"]:
        """Slots, the first `wanted` of them the centres, best first; padding last."""
        return scores.argsort(dim=1, descending=True, stable=True)

    def _neighbours(
        self, evidence: Evidence, slots: Int[Tensor, "batch made"], real: Bool[Tensor, "batch vision"]
    ) -> Bool[Tensor, "batch made vision"]:
        """Which tokens are a slot's nearest; never itself."""
        unit = normalize(evidence.tower_keys(_LAST).float(), dim=-1)
        likeness = (rows_of(unit, slots) @ unit.mT).masked_fill(~real[:, None], -torch.inf)
        likeness = likeness.scatter(2, slots[..., None], -torch.inf)
        values, nearest = likeness.topk(min(self.neighbours, likeness.shape[2]), dim=2)
        return torch.zeros_like(likeness, dtype=torch.bool).scatter(2, nearest, values > -torch.inf)


@dataclass(frozen=True)
class PrumergePlus(Prumerge):
    """`Prumerge` with tokens spread over the sequence among the centres.

    k centres are the best scored; then comes, in order, every (int(n / k) // 3)-th of the n tokens but the last that is
    not one of them. k is the number that fills the allowance best, of several that do the one nearest to the number of
    outliers; what is still free is filled with the best scored others. Where the plan allows what k outliers make, this
    is the official code's set.

    Source: github.com/42Shawn/LLaVA-PruMerge at 097c041, token_prune_merge_advanced_plus (arXiv 2403.15388).
    Differs: as `Prumerge`; there k is the number of outliers, whatever it costs; its form for training, which takes
    some tokens twice, is left out.
    Order: the spread ones are spaced over the sequence.
    """

    def _ranking(
        self,
        scores: Float[Tensor, "batch vision"],
        weights: Float[Tensor, "batch vision"],
        real: Bool[Tensor, "batch vision"],
        wanted: Int[Tensor, "batch"],
    ) -> Int[Tensor, "batch vision"]:
        rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        width, n = rank.shape[1], real.sum(1)[:, None]
        tried = torch.split(torch.arange(width + 1, device=rank.device), _AT_ONCE)
        sizes = torch.cat([_centres(rank, n, k.expand(len(rank), -1)).sum(2) for k in tried], dim=1)
        off = (torch.arange(width + 1, device=rank.device) - outliers(weights, real)[:, None]).abs()
        fit = (sizes * (width + 2) - off).masked_fill(sizes > wanted[:, None], -width - 2)
        chosen = fit.argmax(1, keepdim=True)
        spread = _centres(rank, n, chosen)[:, 0]
        place = torch.arange(width, device=rank.device)
        first = spread & (rank < _important(n, chosen))
        behind = torch.where(first, rank, torch.where(spread, width + place, 2 * width + rank))
        return behind.argsort(dim=1)


def outliers(values: Float[Tensor, "batch vision"], real: Bool[Tensor, "batch vision"]) -> Int[Tensor, "batch"]:
    """How many of each sample's values lie above Q3 + 1.5 (Q3 - Q1), with quartiles between values; 0 of none."""
    ordered = values.double().masked_fill(~real, torch.inf).sort(dim=1).values
    top = (real.sum(1, keepdim=True) - 1).clamp(min=0)

    def quartile(part: float) -> Tensor:
        place = part * top
        low, high = (ordered.gather(1, end.long()) for end in (place.floor(), place.ceil()))
        return torch.where(place == place.floor(), low, low + (high - low) * place.frac())

    first, third = quartile(0.25), quartile(0.75)
    return ((values > third + 1.5 * (third - first)) & real).sum(1)


def _important(n: Int[Tensor, "batch 1"], k: Int[Tensor, "batch tried"]) -> Int[Tensor, "batch tried"]:
    """int(n * (k / n)): floats can lose one, as the official code does."""
    return (n * (k / n.clamp(min=1).double())).long()


def _centres(
    rank: Int[Tensor, "batch vision"], n: Int[Tensor, "batch 1"], k: Int[Tensor, "batch tried"]
) -> Bool[Tensor, "batch tried vision"]:
    """The best `k` and those spread among the `n`; every slot where there is no such spread: it fits nowhere."""
    place = torch.arange(rank.shape[1], device=rank.device, dtype=torch.int32)
    step = ((1 / (k / n.clamp(min=1).double())).clamp(max=3.0 * rank.shape[1] + 3).long() // 3).int()
    spread = (place % step.clamp(min=1)[..., None] == 0) & (place < n[..., None] - 1) & (k > 0)[..., None]
    return spread | (rank[:, None] < _important(n, k)[..., None]) | (step < 1)[..., None]
