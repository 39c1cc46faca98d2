"""ToMe: tokens that are most alike become one, in rounds, by matching every other token with its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Compared, Groups, check_compared, compared_by, make_all
from autoprune_lab.selection.recovery import Survivors, best, on_host


@dataclass(frozen=True)
class Tome:
    """Merge tokens into means weighted by how many each stands for, until as many are left as the plan allows.

    A round splits the tokens into every other one and its neighbours; those of the first half that are most like one
    of the second, by cosine, join it: at most half of all. `schedule`: at most so many go in each of the first rounds
    (see `tome_schedule`), then as many as can. `compare`: the vision tower's `keys` (their mean over heads), or
    `hidden` states. `class_token`: the first token is never merged, and those of the first half keep their order;
    `distill_token`: nothing joins the second. `in_place`: a token stands where the one that was joined stood; otherwise
    in ToMe's order, which needs compact positions. Where the two tokens that never go are more than is allowed, the
    first in that order stay. Scores are not looked at.

    Source: arXiv 2210.09461 (ToMe), github.com/facebookresearch/ToMe at af95e4b.
    Differs: ToMe merges within each layer of the vision tower, by that layer's keys; here what enters the decoder is
    merged, by the keys of the tower layer that it reads. Sizes start anew at each cut, and do not enter the attention.
    Order: the halves are every other token.
    """

    schedule: Sequence[int] = ()
    compare: Compared = "keys"
    class_token: bool = False
    distill_token: bool = False
    in_place: bool = True

    def __post_init__(self) -> None:
        """Take any sequence; raise ValueError for a negative round, and for what tokens cannot be compared by."""
        object.__setattr__(self, "schedule", tuple(self.schedule))
        if min(self.schedule, default=0) < 0:
            raise ValueError(f"schedule={self.schedule} must be >= 0: so many tokens go in each round")
        check_compared(self.compare)

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
        keep, n_made = best(evidence, scores, kept), on_host(merged)
        if not n_made.any():
            return Survivors(keep)
        real, tokens = evidence.vision_mask, visual(evidence)
        metric = compared_by(self.compare, evidence, tokens, real)
        left = Left(metric, tokens, real.float(), torch.arange(real.shape[1], device=real.device).expand(keep.shape))
        n = np.where(n_made > 0, evidence.counts, 0)
        for gone in self._rounds(n, n_made):
            before, going = (upload(torch.from_numpy(part), keep.device) for part in (n, gone))
            left = merge(left, before, going, self.class_token, self.distill_token)
            n = n - gone
        most = int(n_made.max())
        filled = torch.arange(most, device=keep.device) < merged[:, None]
        return Groups(left.slots[:, :most], filled, left.tokens[:, :most]).among(evidence, keep, self.in_place)

    def _rounds(self, n: Counts, wanted: Counts) -> list[Counts]:
        """How many of each sample's `n` tokens go in each round, until `wanted` are left or nothing can go."""
        protected = self.class_token + self.distill_token
        rounds: list[Counts] = []
        for most, last in chain(((r, False) for r in self.schedule), repeat((int(n.max()), True))):
            gone = np.minimum(np.minimum(most, n - wanted), (n - protected).clip(0) // 2)
            if last and not gone.any():
                return rounds
            rounds.append(gone)
            n = n - gone
        return rounds


class Left(NamedTuple):
    """Tokens in their order, padding behind: what they are compared by, themselves, how many each is, and its slot."""

    metric: Float[Tensor, "batch tokens dim"]
    tokens: Float[Tensor, "batch tokens hidden"]
    size: Float[Tensor, "batch tokens"]
    slots: Int[Tensor, "batch tokens"]


def merge(
    left: Left, n: Int[Tensor, "batch"], gone: Int[Tensor, "batch"], class_token: bool, distill_token: bool
) -> Left:
    """One round: `gone` of each sample's `n` tokens join others; the first half, most alike first, then the second.

    With a class token the first half stands in its order; with a distillation token the two come first.
    """
    width = left.size.shape[1]
    first, second = (torch.arange(half, device=n.device) for half in ((width + 1) // 2, width // 2))
    n_first = (n + 1) // 2
    if not len(second):
        return left
    unit = normalize(left.metric, dim=-1)
    likeness = unit[:, ::2] @ unit[:, 1::2].mT
    never = ((first >= n_first[:, None]) | ((first == 0) & class_token))[..., None]
    never = never | ((second >= (n // 2)[:, None]) | ((second == 0) & distill_token))[:, None]
    likeness, into = likeness.masked_fill(never, -torch.inf).max(2)
    order = likeness.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    merged, n_left = rank < gone[:, None], n_first - gone
    stays = ~merged & (first < n_first[:, None])
    place = (stays.cumsum(1) - 1) if class_token else rank - gone[:, None]
    behind = second + n_left[:, None]
    if distill_token:  # class, distillation, then the halves
        place, behind = place + (place > 0), torch.where(second == 0, 1, behind)
    target = torch.full_like(left.slots, width)  # padding goes to one place behind all
    target[:, 1::2] = behind.masked_fill(second >= (n // 2)[:, None], width)
    target[:, ::2] = torch.where(merged, behind.gather(1, into), place.masked_fill(~stays, width))
    here = torch.arange(width, device=n.device)
    here = here.masked_fill(here >= n[:, None], width)
    target = torch.where((gone > 0)[:, None], target, here)  # a sample that is done keeps its order
    size = _summed(left.size[..., None], target)[..., 0]
    metric, tokens = (_summed(part * left.size[..., None], target) / size.clamp(min=1)[..., None] for part in left[:2])
    joined = torch.zeros_like(target, dtype=torch.bool)
    joined[:, ::2] = merged
    slots = torch.zeros_like(left.slots[:, :1]).repeat(1, width + 1)
    slots = slots.scatter(1, target.masked_fill(joined, width), left.slots)[:, :-1]
    return Left(metric, tokens, size, slots)


def tome_schedule(n_layers: int, r: int | Sequence[int] | tuple[int, float]) -> list[int]:
    """Tokens to remove in each of `n_layers` layers: always r, or a line through r, or a list filled up with 0.

    A tuple (r, slope in [-1, 1]) falls from 2 r to 0 at a slope of -1 and rises so at 1. ValueError for another slope,
    a negative r and more numbers than layers.

    Source: arXiv 2210.09461 (ToMe), github.com/facebookresearch/ToMe at af95e4b: parse_r.
    """
    if isinstance(r, Sequence) and not isinstance(r, tuple):
        if len(r) > n_layers or min(r, default=0) < 0:
            raise ValueError(f"r={list(r)} must be at most {n_layers} numbers >= 0, one a layer")
        return [*r, *[0] * (n_layers - len(r))]
    middle, slope = r if isinstance(r, tuple) else (r, 0.0)
    if middle < 0 or not -1 <= slope <= 1:
        raise ValueError(f"r={r} must be >= 0, its slope in [-1, 1]")
    low = int(middle * (1.0 - slope))
    step = 2 * (middle - low) / max(n_layers - 1, 1)
    return [int(low + step * layer) for layer in range(n_layers)]


def _summed(values: Float[Tensor, "batch tokens c"], target: Int[Tensor, "batch tokens"]) -> Tensor:
    """The sums of what goes to each place; what goes behind all is forgotten."""
    size, width, c = values.shape
    room = values.new_zeros(size, width + 1, c)
    return room.scatter_add_(1, target[..., None].expand(-1, -1, c), values)[:, :-1]
