"""Groups of tokens: their means, and where these stand among the tokens that stay. What merging recoveries share."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.recovery import Survivors

Compared = Literal["hidden", "keys"]
"""What tokens are compared by: hidden states, or the vision tower's keys, the mean over heads."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The tokens that a recovery makes: `slots` of the groups' centres; `filled` is False at padding."""

    slots: Int[Tensor, "batch groups"]
    filled: Bool[Tensor, "batch groups"]
    tokens: Float[Tensor, "batch groups hidden"]

    def among(self, evidence: Evidence, keep: Bool[Tensor, "batch vision"], in_place: bool) -> Survivors:
        """The tokens of `keep` and these: each in its centre's slot, or all behind the kept ones in their order."""
        place = torch.arange(keep.shape[1], device=keep.device)
        at = (self.slots[..., None] == place) & self.filled[..., None]
        made, group = at.any(1), at.byte().argmax(1)
        hidden, stays = self._written(evidence.hidden), keep | made
        if in_place:
            return Survivors(stays, hidden)
        return in_order(evidence.index, stays, hidden, torch.where(made, len(place) + group, place))

    def _written(self, hidden: Float[Tensor, "batch vision width"]) -> Float[Tensor, "batch vision width"]:
        """A copy of `hidden` with the tokens in their slots; padding is written behind the last slot."""
        room = torch.cat([hidden, hidden[:, :1]], dim=1)
        slots = self.slots.masked_fill(~self.filled, hidden.shape[1])
        room.scatter_(1, slots[..., None].expand_as(self.tokens), self.tokens.to(hidden.dtype))
        return room[:, :-1]


def in_order(
    index: Int[Tensor, "batch vision"],
    stays: Bool[Tensor, "batch vision"],
    hidden: Float[Tensor, "batch vision hidden"],
    order: Shaped[Tensor, "batch vision"],
) -> Survivors:
    """The slots that stay, filled with their tokens of `hidden`, and `index`, in `order`; needs compact positions."""
    source = order.argsort(dim=1, stable=True)
    source = source.gather(1, (~stays).byte().gather(1, source).argsort(dim=1, stable=True))  # those that stay first
    target = (~stays).byte().argsort(dim=1, stable=True)  # the slots that stay, in their order
    moved = torch.zeros_like(source).scatter(1, target, source)
    return Survivors(stays, rows_of(hidden, moved), index.gather(1, moved))


def rows_of(values: Shaped[Tensor, "batch n width"], index: Int[Tensor, "batch m"]) -> Shaped[Tensor, "batch m width"]:
    """Each sample's rows at `index`, copied row by row: several times faster than `gather` on a CPU."""
    size, n, width = values.shape
    first = n * torch.arange(size, device=index.device)
    return values.flatten(0, 1).index_select(0, (index + first[:, None]).flatten()).view(*index.shape, width)


def means(
    points: Float[Tensor, "batch points hidden"],
    real: Bool[Tensor, "batch points"],
    likeness: Float[Tensor, "batch groups points"],
    centres: Int[Tensor, "batch groups"],
    filled: Bool[Tensor, "batch groups"],
    eps: float = 0.0,
) -> Float[Tensor, "batch groups hidden"]:
    """The mean of each group's points: a centre is in its own group, any other in that of the centre most like it.

    `points` are 0 where not `real`; `eps` is added to the number of members. See `members`.
    """
    inside = members(real, likeness, centres, filled).to(points.dtype)
    return inside @ points / (inside.sum(-1, keepdim=True).clamp(min=1) + eps)


def members(
    real: Bool[Tensor, "batch points"],
    likeness: Float[Tensor, "batch groups points"],
    centres: Int[Tensor, "batch groups"],
    filled: Bool[Tensor, "batch groups"],
) -> Bool[Tensor, "batch groups points"]:
    """Which points each group has: its centre, and every `real` point most like that centre; ties: the first group."""
    n_groups, n_points = likeness.shape[1:]
    point, group = (torch.arange(n, device=centres.device) for n in (n_points, n_groups))
    own = (centres[..., None] == point) & filled[..., None]
    nearest = likeness.masked_fill(~filled[..., None], -torch.inf).argmax(1)
    chosen = (nearest[:, None] == group[:, None]) & real[:, None]
    return torch.where(own.any(1, keepdim=True), own, chosen)


def spaced(
    rest: Bool[Tensor, "batch vision"], counts: Int[Tensor, "batch"], n_groups: int
) -> tuple[Int[Tensor, "batch groups"], Bool[Tensor, "batch groups"]]:
    """Slots of `counts` of each sample's tokens of `rest`, evenly spaced in their order; which of them are filled."""
    group = torch.arange(n_groups, device=rest.device)
    filled, step = group < counts[:, None], rest.sum(1) // counts.clamp(min=1)
    places = (group * step[:, None]).masked_fill(~filled, 0)
    return (~rest).byte().argsort(dim=1, stable=True).gather(1, places), filled


def check_compared(compare: str) -> None:
    """Raise ValueError for what is none of `Compared`."""
    if compare not in get_args(Compared):
        raise ValueError(f"compare={compare!r} must be one of {', '.join(get_args(Compared))}")


def compared_by(
    compare: Compared,
    evidence: Evidence,
    points: Float[Tensor, "batch vision hidden"],
    real: Bool[Tensor, "batch vision"],
) -> Float[Tensor, "batch vision width"]:
    """What tokens are compared by, in float32, 0 where not `real`, as the hidden states `points` are already."""
    return points if compare == "hidden" else evidence.mean_keys().float().masked_fill(~real[..., None], 0.0)


def make_all(allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
    """The split of a recovery that makes or chooses all that stay by itself, unless nothing is dropped."""
    cut = allowed < present
    return np.where(cut, 0, allowed), np.where(cut, allowed, 0)


def make_share(share: float, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
    """The split of a recovery that makes `share` of what is allowed, rounded down, unless nothing is dropped."""
    merged = np.where(allowed < present, np.floor(share * allowed).astype(allowed.dtype), 0)
    return allowed - merged, merged


def check_share(share: float) -> None:
    """Raise ValueError for a share outside [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"share={share} is outside [0, 1): it is the merged part of the allowed tokens")
