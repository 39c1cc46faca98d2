"""Contextual merge: the dropped tokens of a whole picture, averaged into a few."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.groups import (
    Compared,
    Groups,
    check_compared,
    check_share,
    compared_by,
    make_share,
    means,
    members,
    rows_of,
    spaced,
)
from autoprune_lab.selection.recovery import Survivors, best, on_host


@dataclass(frozen=True)
class ContextualMerge:
    """Merge all dropped tokens into evenly spaced ones among them, each into the one most like it by cosine.

    `share`: part of the allowed tokens that are merged ones, rounded down, in [0, 1). `in_place`: a merged token takes
    the place and position of the spaced one; otherwise merged tokens stand behind all kept ones, which needs compact
    positions. `compare`: `hidden` states, or the vision tower's `keys` (their mean over heads). `added`: a target
    plus the mean of those that join it, the target alone where none does; otherwise the mean of all of them.

    Source: arXiv 2412.04467 (VisionZip): 10 contextual tokens beside 54 dominant ones, 20 beside 108, 30 beside 162;
    its official code, github.com/dvlab-research/VisionZip at 3151f6d: compare="keys", added=True.
    Differs: VisionZip merges before the projector, here hidden states are merged; its dominant tokens include [CLS]
    itself, which the decoders here do not get. Without a [CLS] its scores are attention received, see
    `scorers.cls_attention`.
    Order: targets are spaced over the sequence.
    """

    share: float = 0.15625
    in_place: bool = False
    compare: Compared = "hidden"
    added: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside [0, 1), and for what tokens cannot be compared by."""
        check_compared(self.compare)
        check_share(self.share)

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """`share` of what is allowed is merged, unless nothing is dropped."""
        return make_share(self.share, allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample and merge the others into `merged`."""
        keep, n_groups = best(evidence, scores, kept), int(on_host(merged).max())
        if not n_groups:
            return Survivors(keep)
        rest = evidence.vision_mask & ~keep
        slots, filled = spaced(rest, merged, n_groups)
        points = evidence.hidden.float().masked_fill(~rest[..., None], 0.0)
        unit = normalize(compared_by(self.compare, evidence, points, rest), dim=-1)
        likeness = rows_of(unit, slots) @ unit.mT
        tokens = (self._sums if self.added else means)(points, rest, likeness, slots, filled)
        return Groups(slots, filled, tokens).among(evidence, keep, self.in_place)

    @staticmethod
    def _sums(
        points: Float[Tensor, "batch points hidden"],
        rest: Bool[Tensor, "batch points"],
        likeness: Float[Tensor, "batch groups points"],
        targets: Int[Tensor, "batch groups"],
        filled: Bool[Tensor, "batch groups"],
    ) -> Float[Tensor, "batch groups hidden"]:
        """Each target plus the mean of those that join it."""
        joins = members(rest, likeness, targets, filled).to(points.dtype).scatter(2, targets[..., None], 0.0)
        return rows_of(points, targets) + joins @ points / joins.sum(-1, keepdim=True).clamp(min=1)
