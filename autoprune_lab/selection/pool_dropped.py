"""Pool dropped: neighbours in the picture among the dropped tokens, averaged into a few."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Groups, check_share, make_share, means, rows_of, spaced
from autoprune_lab.selection.recovery import Survivors, best, on_host


@dataclass(frozen=True)
class PoolDropped:
    """Average the dropped tokens into evenly spaced ones among them, each into the nearest in its own picture.

    `share`: part of the allowed tokens that are such means, rounded down, in [0, 1). Near is by rows and columns of the
    grid, of equally near ones the first. A mean takes the place and position of the spaced token. Of a picture or frame
    in which none is spaced, what is dropped is forgotten. `GridPooling` pools all tokens, whatever their scores.

    Order: targets are spaced over the sequence.
    """

    share: float = 0.15625

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside [0, 1)."""
        check_share(self.share)

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """`share` of what is allowed are means, unless nothing is dropped."""
        return make_share(self.share, allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and pool the others into `merged`."""
        keep, n_groups = best(evidence, scores, kept), int(on_host(merged).max())
        if not n_groups:
            return Survivors(keep)
        rest = evidence.vision_mask & ~keep
        slots, filled = spaced(rest, merged, n_groups)
        nearness = _nearness(evidence.grid, slots).masked_fill(~filled[..., None], -torch.inf)
        joins = rest & nearness.isfinite().any(1)
        tokens = means(visual(evidence), joins, nearness, slots, filled)
        return Groups(slots, filled, tokens).among(evidence, keep, in_place=True)


def _nearness(
    grid: Int[Tensor, "batch vision 4"], slots: Int[Tensor, "batch groups"]
) -> Float[Tensor, "batch groups vision"]:
    """Minus the squared distance of each token from those at `slots`, in tokens; -inf in another picture or frame."""
    apart = rows_of(grid, slots)[:, :, None] - grid[:, None]
    near = -apart[..., 2:].square().sum(-1).float()
    return near.masked_fill(apart[..., :2].any(-1), -torch.inf)
