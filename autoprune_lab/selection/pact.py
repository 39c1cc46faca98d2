"""PACT: the tokens that visual tokens ask for, clustered within a distance; pruned ones join the clusters."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Groups, make_all, means, rows_of
from autoprune_lab.selection.recovery import Survivors, best, on_host

_HALVINGS = 16  # of the distance, whose whole range is [0, 2]
_BELOW = -1e-6  # a distance that any two tokens pass


def mean_query_attention(evidence: Evidence, times_norm: bool = False) -> Float[Tensor, "batch vision"]:
    """Attention that the mean query of all visual tokens pays each, among them alone: mean over heads, in [0, 1].

    Queries and keys are taken before the rotary embedding. `times_norm`: times the L2 norm of the hidden state.

    Source: arXiv 2504.08966 (PACT), github.com/orailix/PACT at cf9a0c9.
    Differs: there special tokens before the picture's end take part in mean and softmax.
    """
    queries, keys = (part("vision", rotary=False).float() for part in (evidence.queries, evidence.keys))
    real = evidence.vision_mask[:, None, :, None]
    mean = queries.masked_fill(~real, 0.0).sum(2) / evidence.vision_mask.sum(1).clamp(min=1)[:, None, None]
    grouped = mean.reshape(*keys.shape[:2], -1, keys.shape[-1])  # query heads by the key head that they share
    logits = (grouped @ keys.mT) * keys.shape[-1] ** -0.5
    hidden_away = logits.masked_fill(~real.mT, torch.finfo(logits.dtype).min)
    scores: Tensor = hidden_away.softmax(-1).mean((1, 2))
    return scores * evidence.hidden.float().norm(dim=-1) if times_norm else scores


@dataclass(frozen=True)
class Pact:
    """Cluster the best scored `keep` of the tokens within a distance; each centre becomes the mean of its cluster.

    Distance is 1 - cosine of the layer's keys, after the rotary embedding, all heads side by side. From the densest on
    (sum of exp(-(d / 2)^2) over the best), a token further than `cutoff` from all centres becomes one. Every token,
    pruned ones too, joins the nearest centre within `cutoff * coef`, or is forgotten. Where that makes another number
    of clusters than planned, the cutoff is halved towards the largest that makes as many, and the densest of its
    centres are taken; a cutoff below the given one does not narrow who may join. At least as many tokens as planned
    clusters are clustered.

    Source: arXiv 2504.08966 (PACT), github.com/orailix/PACT at cf9a0c9: DBDPC and merge_clusters.
    Differs: there the cutoff decides how many stay, here the plan does; there the size of a cluster enters the later
    layers' attention as its logarithm, here it does not.
    """

    keep: float = 0.55
    cutoff: float = 0.21
    coef: float = 1.5

    def __post_init__(self) -> None:
        """Raise ValueError for a part outside [0, 1], a distance outside [0, 2], or a coefficient below 1."""
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep={self.keep} is outside [0, 1]: it is the part of the tokens that is clustered")
        if not 0 <= self.cutoff <= 2:
            raise ValueError(f"cutoff={self.cutoff} is outside [0, 2]: it is a distance, 1 - cosine")
        if not self.coef >= 1:
            raise ValueError(f"coef={self.coef} must be >= 1: tokens join within cutoff * coef")

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
        stay, n_made = best(evidence, scores, kept), int(on_host(merged).max(initial=0))
        if not n_made:
            return Survivors(stay)
        real = evidence.vision_mask
        n_clustered = (real.sum(1).double() * self.keep).long().maximum(merged)
        clustered = best(evidence, scores, n_clustered) & (merged > 0)[:, None]
        unit = normalize(evidence.keys("vision").float().transpose(1, 2).flatten(2), dim=-1)
        itself = torch.eye(unit.shape[1], dtype=torch.bool, device=unit.device)
        distance = (1 - unit @ unit.mT).clamp(min=0).masked_fill(itself, 0.0)
        rank = _density_rank(distance, clustered)
        centres, cutoff = self._centres(distance, rank, clustered, merged)
        slots = (~centres).byte().argsort(dim=1, stable=True)[:, :n_made]
        filled = torch.arange(n_made, device=slots.device) < merged[:, None]
        apart = rows_of(distance, slots)
        nearest = apart.masked_fill(~filled[..., None], torch.inf).amin(1)
        joins = real & (nearest <= self.coef * cutoff.clamp(min=self.cutoff)[:, None])
        points = visual(evidence)
        return Groups(slots, filled, means(points, joins, -apart, slots, filled)).among(evidence, stay, in_place=True)

    def _centres(
        self,
        distance: Float[Tensor, "batch n n"],
        rank: Int[Tensor, "batch n"],
        clustered: Bool[Tensor, "batch n"],
        wanted: Int[Tensor, "batch"],
    ) -> tuple[Bool[Tensor, "batch n"], Float[Tensor, "batch"]]:
        """`wanted` centres of each sample, and the distance that they keep from each other."""
        low, high = (torch.full(wanted.shape, end, device=distance.device) for end in (_BELOW, 2.1))
        tried, held = torch.full_like(low, self.cutoff), clustered
        for _ in range(_HALVINGS + 1):
            found = bounded_centres(distance, rank, clustered, tried)
            n = found.sum(1)
            enough, met = n >= wanted, n == wanted
            low, held = torch.where(enough, tried, low), torch.where(enough[:, None], found, held)
            high = torch.where(met, low, torch.where(enough, high, tried))
            if met.all():
                break
            tried = torch.where(met, tried, (low + high) / 2)
        denser = (rank[:, None] > rank[..., None]) & held[:, None]
        return held & (denser.sum(2) < wanted[:, None]), low


def bounded_centres(
    distance: Float[Tensor, "batch n n"],
    rank: Int[Tensor, "batch n"],
    clustered: Bool[Tensor, "batch n"],
    cutoff: Float[Tensor, "batch"],
) -> Bool[Tensor, "batch n"]:
    """From the highest rank on, each clustered token further than `cutoff` from all centres before it.

    All tokens that no undecided denser one can rule out are decided at once: a few rounds do.
    """
    rules_out = (distance <= cutoff[:, None, None]) & (rank[:, None] > rank[..., None])
    open_, centres = clustered, torch.zeros_like(clustered)
    while open_.any():
        new = open_ & ~(rules_out & open_[:, None]).any(2)
        centres = centres | new
        open_ = open_ & ~new & ~(rules_out & new[:, None]).any(2)
    return centres


def _density_rank(distance: Float[Tensor, "batch n n"], clustered: Bool[Tensor, "batch n"]) -> Int[Tensor, "batch n"]:
    """0 for what is not clustered or least dense; of equally dense ones the later is the denser."""
    density = torch.where(clustered[:, None], (-(distance / 2).square()).exp(), 0.0).sum(2)
    return density.masked_fill(~clustered, -1.0).argsort(dim=1, stable=True).argsort(dim=1)
