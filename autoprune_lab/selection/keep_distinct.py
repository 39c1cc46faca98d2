"""Keep distinct: a part of the allowed tokens are the best scored, the others the most unlike among the rest."""

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
from autoprune_lab.selection.recovery import Survivors, best, on_host

_HIDDEN = -4.0  # added to a cosine: below any other


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
        order = scores.argsort(dim=1, descending=True, stable=True)
        order = order.gather(
            1, (~left).byte().gather(1, order).argsort(dim=1, stable=True)
        )  # those that are left first
        cosine, rounds = _cosines(evidence, left, self.double), self._rounds(evidence, kept, merged)
        for width, counts in zip(rounds[:, 0].max(1), upload(torch.from_numpy(rounds), keep.device), strict=True):
            order = _round(order[:, :width], counts[0, :, None], counts[1, :, None], cosine)
        stays = torch.arange(order.shape[1], device=keep.device) < merged[:, None]
        return Survivors(keep | torch.zeros_like(keep).scatter(1, order, stays))

    def _rounds(
        self, evidence: Evidence, kept: Int[Tensor, "batch"], merged: Int[Tensor, "batch"]
    ) -> Int[np.ndarray, "rounds 2 batch"]:
        """Tokens before each round, and those that go in it, at most the first half; until no sample has too many."""
        wanted, rounds = on_host(merged), list[tuple[Counts, Counts]]()
        left = np.where(wanted > 0, evidence.counts - on_host(kept), 0)
        while (left > wanted).any():
            rounds.append((left, np.minimum((left - wanted).clip(0, self.step), (left + 1) // 2)))
            left = left - rounds[-1][1]
        return np.reshape(rounds, (len(rounds), 2, len(wanted))).astype(np.int64)


def _round(
    order: Int[Tensor, "batch left"],
    n: Int[Tensor, "batch 1"],
    n_gone: Int[Tensor, "batch 1"],
    cosine: Float[Tensor, "batch vision vision"],
) -> Int[Tensor, "batch left"]:
    """The `n` tokens in their new order, `n_gone` fewer: those of the first half most like the other one go.

    Of equally like ones the first in the picture goes. Slots of others stand behind, each once.
    """
    place = torch.arange(order.shape[1], device=order.device)
    is_first, is_second = place[::2] < n, place[1::2] < n
    behind = cosine.shape[1] * ~is_first
    first, second = (order[:, ::2] + behind).sort(dim=1).values % cosine.shape[1], order[:, 1::2]
    hidden = torch.full_like(cosine[:, 0], _HIDDEN).scatter(1, second, _HIDDEN * (~is_second).to(cosine.dtype))
    likeness = rows_of(cosine, first).add_(hidden[:, None]).amax(-1).masked_fill(~is_first, 2 * _HIDDEN)
    first = first.gather(1, likeness.argsort(dim=1, descending=True, stable=True))
    stays = torch.cat([is_first & (place[: first.shape[1]] >= n_gone), is_second], dim=1)
    return torch.cat([first, second], dim=1).gather(1, (~stays).byte().argsort(dim=1, stable=True))


def _cosines(
    evidence: Evidence, real: Bool[Tensor, "batch vision"], double: bool
) -> Float[Tensor, "batch vision vision"]:
    """Of `real` tokens only; in float32, or in float64."""
    dtype = torch.float64 if double else torch.float32
    unit = normalize(evidence.hidden.to(dtype).masked_fill(~real[..., None], 0.0), dim=-1)
    return unit @ unit.mT
