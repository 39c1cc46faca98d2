"""DART: a few pivots of the picture and the text, and for each in turn a share of the tokens least like it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.groups import rows_of
from autoprune_lab.selection.recovery import Survivors, best, on_host, top_n


def key_norm(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """L1 norm of each visual token's key, all heads together, after the rotary embedding; >= 0.

    Source: arXiv 2502.11494 (DART), which takes its pivots so.
    """
    return _norms(evidence.keys("vision"))


@dataclass(frozen=True)
class Dart:
    """Fill the allowed tokens up with those least like the pivots, each of which takes an equal share in its turn.

    Pivots are the `image_pivots` best scored visual tokens, which stay (DART's scores are `key_norm`), and the
    `text_pivots` text rows of largest key norm. Each in turn takes its share of the tokens that are left, those of
    least cosine to it; compared are hidden states after the decoder's final norm. The turns go in the order in which
    CPython iterates over a set of the pivots' places in the prompt, as in the code, and the order matters: shares come
    out of what is left. `start`: how many tokens stand before the picture. Fewer allowed than `image_pivots`: the best
    of those; fewer text rows than `text_pivots`: all.

    Source: arXiv 2502.11494 (DART); its code as vendored in github.com/Chenfei-Liao/VTC-Bench at 983e443.
    Differs: the code keeps image_pivots + pivots * (number // pivots) tokens, 132 for 128; here a count is planned, and
    what its division leaves over goes to the first turns, one each. `start` is 35 for LLaVA in the code, too. The paper
    has a threshold of similarity where the code has equal shares. The text is taken to stand behind all visual tokens.
    Order: a pivot's turn depends on its place.
    """

    image_pivots: int = 4
    text_pivots: int = 4
    start: int = 35

    def __post_init__(self) -> None:
        """Raise ValueError for no pivot in the picture, or a number below 0."""
        if self.image_pivots < 1 or self.text_pivots < 0 or self.start < 0:
            raise ValueError(f"{self}: image_pivots must be >= 1, text_pivots and start >= 0")

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """The pivots of the picture are kept by score, unless nothing is dropped."""
        kept = np.where(allowed < present, np.minimum(allowed, self.image_pivots), allowed)
        return kept, allowed - kept

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and `merged` others that are unlike the pivots."""
        keep = best(evidence, scores, kept)
        if not on_host(merged).any():
            return Survivors(keep)
        pivots, n_pivots = self._turns(evidence, scores, keep, on_host(kept), on_host(merged) > 0)
        cosine = _cosines(evidence, pivots)
        left, stays = evidence.vision_mask & ~keep, keep
        for turn in range(pivots.shape[1]):
            share = merged // n_pivots + (turn < merged % n_pivots)
            share = share.where(turn < n_pivots, 0)  # n_pivots: at least 1
            taken = top_n((-cosine[:, turn]).masked_fill(~left, -torch.inf), share) & left
            left, stays = left & ~taken, stays | taken
        return Survivors(stays)

    def _turns(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        keep: Bool[Tensor, "batch vision"],
        kept: Counts,
        asked: Bool[np.ndarray, "batch"],
    ) -> tuple[Int[Tensor, "batch pivots"], Int[Tensor, "batch"]]:
        """Slots of the pivots in the order of their turns, those of text behind all visual ones; how many there are."""
        image = scores.masked_fill(~keep, -torch.inf).argsort(dim=1, descending=True, stable=True)
        rows = _norms(evidence.keys("text")).masked_fill(~evidence.text_mask, -torch.inf)
        text = rows.argsort(dim=1, descending=True, stable=True)[:, : self.text_pivots]
        image = image[:, : self.image_pivots]
        n_image, n_text = kept.clip(max=self.image_pivots), evidence.row_counts.clip(max=self.text_pivots)
        found = torch.cat([image, text], dim=1).tolist()  # the host has to know: the only wait
        turns, n_slots, width = list[list[int]](), keep.shape[1], image.shape[1]
        for both, n, m, n_vision, needed in zip(found, n_image, n_text, evidence.counts.tolist(), asked, strict=True):
            of_image = {self.start + slot: slot for slot in both[:width][:n]}
            of_text = {self.start + n_vision + place: n_slots + place for place in both[width:][:m]}
            slot_of = of_image | of_text
            turns.append([slot_of[place] for place in set(list(slot_of))] if needed else [0])  # noqa: C414 - see `Dart`
        width = max(map(len, turns))
        filled = torch.tensor([turn + [0] * (width - len(turn)) for turn in turns])
        lengths = torch.tensor([len(turn) for turn in turns])
        return upload(filled, keep.device), upload(lengths, keep.device)


def _cosines(evidence: Evidence, pivots: Int[Tensor, "batch pivots"]) -> Float[Tensor, "batch pivots vision"]:
    """Of each pivot to each visual token."""
    image, text = (normalize(evidence.normed(of).float(), dim=-1) for of in ("vision", "text"))
    return rows_of(torch.cat([image, text], dim=1), pivots) @ image.mT


def _norms(keys: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch tokens"]:
    return keys.float().abs().sum((1, 3))
