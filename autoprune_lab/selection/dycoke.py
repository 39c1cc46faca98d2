"""DyCoke's temporal stage: of most frames only what is unlike an earlier one stays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.groups import in_order, make_all
from autoprune_lab.selection.recovery import Survivors, best, on_host
from autoprune_lab.selection.videos import by_score, pictures


@dataclass(frozen=True)
class Dycoke:
    """Thin out every second frame, and every third of four, to the tokens least like their place in an earlier frame.

    Of frames 1, 3, 5 .. compared with the one before, and of frames 2, 6, 10 .. compared with the one two before
    where a frame follows the group of four, an equal part stays, whatever the video; the others are whole, but an odd
    last frame goes. Where less is planned than the whole frames are, the best scored of them stay; where more than all
    thinned ones, the last frame's. Images and tokens without a place count as whole frames. `in_place`: tokens stay
    in their order; otherwise those of a thinned frame stand by likeness, the least alike first, as in the official
    code, which needs compact positions. ValueError where an earlier cut left unlike frames.

    Source: arXiv 2411.15024 (DyCoke), github.com/KD-TAO/DyCoke at dd74634, `dycole_ttm`; its edges as coded.
    Differs: the plan says how many stay, there `merging_ratio` of the thinned frames go, rounded; videos of
    less than five frames, an error there, are treated alike. The stage within the cache, at decoding, is not here.
    """

    in_place: bool = False

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """Everything that stays is chosen here, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep `kept` + `merged` tokens of each sample, as they are."""
        rank = by_score(evidence, scores)
        entry, line = 2 + rank, torch.arange(rank.shape[1], device=rank.device).repeat(len(rank), 1)
        for sample, slots in pictures(evidence, "dycoke"):
            n_frames, n = slots.shape
            if n_frames == 1:
                continue
            thin, whole = _pairs(n_frames, slots)
            tokens = evidence.hidden[sample]
            alike = cosine_similarity(tokens[slots[thin]].float(), tokens[slots[whole]].float(), dim=-1)
            order = slots[thin].gather(1, alike.argsort(dim=1, stable=True))
            entry[sample, order] = 1 - torch.arange(1, n + 1, device=order.device).double() / n
            if n_frames % 2:
                entry[sample, slots[-1]] = rank[sample, slots[-1]] - 2
            if on_host(merged)[sample] > 0:
                line[sample, order] = slots[thin].sort(dim=1).values
        entry = torch.where((merged > 0)[:, None], entry, rank)
        keep = best(evidence, entry, kept + merged)
        return Survivors(keep) if self.in_place else in_order(evidence.index, keep, evidence.hidden, line)


def _pairs(n_frames: int, slots: Tensor) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """The frames that are thinned out, and the ones that they are compared with."""
    thin = [(frame, frame - 1) for frame in range(1, n_frames, 2)]
    thin += [(first + 2, first) for first in range(0, n_frames - 4, 4)]
    pairs = upload(torch.tensor(thin), slots.device)
    return pairs[:, 0], pairs[:, 1]
