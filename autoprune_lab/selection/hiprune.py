"""HiPrune: anchors of a middle tower layer, their neighbours, and the best of the last layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, TowerLayer
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.recovery import Survivors, best, top_n

_TOKENS_PER_ANCHOR = 5  # itself and four neighbours


@dataclass(frozen=True)
class ReceivedAttention:
    """Attention that each visual token receives in a tower layer: mean over heads and queries, [CLS] too; in [0, 1].

    `layer` of the tower, from 0 or from the end, or a part of its depth in [0, 1), rounded down; None: the one whose
    output the decoder reads. 0.35 is layer 8 of CLIP's 24.

    Source: arXiv 2508.00553 (HiPrune), and github.com/Danielement321/HiPrune at 6e83a12.
    """

    layer: TowerLayer = 0.35

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """The layer that is read."""
        return (self.layer,)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """See the class."""
        return evidence.tower_received(self.layer)


@dataclass(frozen=True)
class Hiprune:
    """The best scored tokens are anchors; their neighbours stay, too, and then what receives most attention deeper.

    round(`alpha` / 5 of the allowed tokens) are anchors, half to even. Neighbours are those one before and behind in
    the picture's raster order and one row up and down, the first or last token where that is outside; a token without a
    place has none. Where they are more than is allowed, those stay that receive more. `layer` is the deeper one,
    as in `ReceivedAttention`.

    Source: arXiv 2508.00553 (HiPrune), and github.com/Danielement321/HiPrune at 6e83a12.
    Differs: the official code fails where anchors and neighbours are more than is allowed; of a sample's pictures it
    takes each alone, with its own count, here all of them share one.
    """

    alpha: float = 0.1
    layer: TowerLayer = None

    def __post_init__(self) -> None:
        """Raise ValueError for a part outside [0, 1]."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha} is outside [0, 1]: it is the part for anchors and their neighbours")

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """The layer that is read."""
        return (self.layer,)

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """Anchors are kept by score, all other allowed tokens are filled in, unless nothing is dropped."""
        anchors = np.rint(allowed * self.alpha / _TOKENS_PER_ANCHOR).astype(allowed.dtype)
        kept = np.where(allowed < present, anchors, allowed)
        return kept, allowed - kept

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and `merged` of their neighbours and of the others."""
        anchors = best(evidence, scores, kept)
        received = evidence.tower_received(self.layer)
        first = received + 2.0 * neighbours(evidence.grid, anchors, evidence.extents) + 4.0 * anchors  # each in [0, 1]
        return Survivors(top_n(first.masked_fill(~evidence.vision_mask, -torch.inf), kept + merged))


def neighbours(
    grid: Int[Tensor, "batch vision 4"], of: Bool[Tensor, "batch vision"], extents: Sequence[int]
) -> Bool[Tensor, "batch vision"]:
    """True at the neighbours of tokens `of` in their picture, or step in time: see `Hiprune`.

    A picture is as wide and as high as the tokens that are there say. `extents`: see `Evidence.extents`.
    """
    n_pictures, n_steps, *sides = extents
    picture, t, h, w = grid.unbind(-1)
    placed = (h >= 0) & (w >= 0)
    board = (picture * n_steps + t).masked_fill(~placed, 0)
    sizes = [_largest(board, side.masked_fill(~placed, -1), n_pictures * n_steps) + 1 for side in (h, w)]
    height, width = (size.gather(1, board) for size in sizes)
    place, step = h * width + w, torch.stack([-torch.ones_like(width), torch.ones_like(width), -width, width], -1)
    there = (place[..., None] + step).clamp(min=0).minimum((height * width - 1)[..., None])
    room = max(sides) ** 2  # no board has more places
    key, asked = board * room + place, (board * room)[..., None] + there
    asked = asked.masked_fill(~(of & placed)[..., None], -1).flatten(1)
    asked = asked.sort(dim=1).values
    found = torch.searchsorted(asked, key.masked_fill(~placed, 0)).clamp(max=max(asked.shape[1] - 1, 0))
    return placed & (asked.gather(1, found) == key)


def _largest(
    board: Int[Tensor, "batch vision"], values: Int[Tensor, "batch vision"], n_boards: int
) -> Int[Tensor, "batch boards"]:
    """The largest value of each board; -1 where there is none."""
    return values.new_full((len(board), n_boards), -1).scatter_reduce(1, board, values, "amax")
