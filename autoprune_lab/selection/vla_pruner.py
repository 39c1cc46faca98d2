"""VLA-Pruner: what the prompt looks at, and what earlier decisions of the episode looked at; unlike tokens of both."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer
from autoprune_lab.evidence.history import Recall
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import distances, farthest_first
from autoprune_lab.selection.groups import make_all
from autoprune_lab.selection.per_view import rank_within
from autoprune_lab.selection.recovery import Survivors, on_host, top_n
from autoprune_lab.selection.scorers import prefill_attention


@dataclass(frozen=True)
class ActionHistory:
    """Attention that the answers of the episode's last `window` decisions paid each visual token, decayed; in [0, 1].

    The newest weighs 1, each one before it `decay` of the next, and a sample's scores sum to 1. `layer` of the decoder,
    from 0, or a part of its depth in [0, 1), rounded down: 0.47 is layer 15 of 32. A sample without earlier decisions
    has the scores of `otherwise`: the first decision of an episode, and all outside of one.

    Source: arXiv 2511.16449 (VLA-Pruner), and github.com/MINT-SJTU/VLA-Pruner at 3d156ee: its temporal smoothing.
    Differs: the official code prunes nothing until the window is full, here each decision is planned. A token
    that had gone counts as 0, as there.
    """

    window: int = 3
    decay: float = 0.8
    layer: int | float = 0.47
    otherwise: Scorer = prefill_attention

    def __post_init__(self) -> None:
        """Raise ValueError for a decay outside [0, 1], and as `Recall` does."""
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay} is outside [0, 1]: it is what a decision weighs beside the next one")
        _ = self.recall

    @property
    def recall(self) -> Recall:
        """What it wants to know."""
        return Recall(self.layer, self.window)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """See the class."""
        history = evidence.history[:, : self.window]
        weight = self.decay ** torch.arange(history.shape[1], device=history.device, dtype=history.dtype)
        smoothed = (history * weight[:, None]).sum(1)
        total = smoothed.sum(1, keepdim=True)
        scores = self.otherwise(evidence)
        return torch.where(total > 0, smoothed / total.clamp(min=torch.finfo(total.dtype).tiny), scores.float())


@dataclass(frozen=True)
class CombineThenFilter:
    """Of what the scores want and what `action` wants, so many of each as may stay, keep those unlike one another.

    Each picture has its part of the allowed tokens. The best scored of it and the best by `action` are candidates; of
    these greedy max-min selection picks, by 1 - cosine of hidden states, see `max_min_diversity`.

    Source: arXiv 2511.16449 (VLA-Pruner), and github.com/MINT-SJTU/VLA-Pruner at 3d156ee.
    Differs: there the decoder's input embeddings are compared, here the hidden states that enter the layer that cuts;
    there the parts are rounded one by one, here they sum to the planned count.
    """

    action: Scorer = ActionHistory()

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """All of what is allowed is filled so, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep `kept + merged` tokens of each sample."""
        real, picture, n_pictures = evidence.vision_mask, evidence.grid[..., 0].clamp(min=0), evidence.extents[0]
        share = parts(picture.masked_fill(~real, n_pictures), n_pictures, kept + merged)
        most = share.gather(1, picture)
        semantic, action = (by.float().masked_fill(~real, -torch.inf) for by in (scores, self.action(evidence)))
        candidates = real & ((rank_within(semantic, picture) < most) | (rank_within(action, picture) < most))
        distance, keep = distances(evidence), torch.zeros_like(real)
        steps = int((on_host(kept) + on_host(merged)).max(initial=0))
        for number, count in enumerate(share.unbind(1)):
            among = candidates & (picture == number)
            order = farthest_first(distance.masked_fill(~among[..., None], torch.inf), among, steps)
            keep |= among & top_n(order.masked_fill(~among, -torch.inf), count)
        return Survivors(keep)


def parts(
    picture: Int[Tensor, "batch vision"], n_pictures: int, total: Int[Tensor, "batch"]
) -> Int[Tensor, "batch pictures"]:
    """`total` tokens shared out among pictures by how many each has, to a token; a higher number is no picture's."""
    sizes = torch.zeros(len(picture), n_pictures + 1, dtype=torch.long, device=picture.device)
    sizes = sizes.scatter_add(1, picture, torch.ones_like(picture))[:, :n_pictures]
    upto = sizes.cumsum(1) * total[:, None] // sizes.sum(1, keepdim=True).clamp(min=1)
    return upto.diff(dim=1, prepend=torch.zeros_like(upto[:, :1]))
