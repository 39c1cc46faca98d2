"""SCOPE: tokens that cover what is not covered yet, the salient ones first."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.greedy import Pick, picking_order, row_at

Combined = Literal["multi", "add"]


@dataclass(frozen=True)
class Scope:
    """Minus the place at which greedy selection picks a token, by what it covers anew and by [CLS] attention.

    A token's gain is the sum over all tokens of how far its cosine with them lies above the highest one with any
    picked token, from 0 on; the tower's features are compared. The highest gain times (`multi`) or plus (`add`)
    saliency ** alpha is picked; saliency is the sum over `heads` of [CLS] attention. Of equal values, those of tokens
    without attention for one, the first is picked.

    Source: arXiv 2510.24214, and github.com/kinredon/SCOPE at 6bf7306.
    Differs: `Budget` says how many stay; several pictures of a sample compete with each other. Evidence has the mean
    over heads, so that `add` must be told the tower's `heads`; `multi` does not depend on them. Without a [CLS]
    attention received takes its place, see `scorers.cls_attention`.
    """

    alpha: float = 1.0
    combined: Combined = "multi"
    heads: int = 16
    tower_layers: ClassVar[tuple[None]] = (None,)  # the features of the layer that the decoder reads

    def __post_init__(self) -> None:
        """Raise ValueError for a negative power, an unknown combination, or a tower without heads."""
        if not self.alpha >= 0:
            raise ValueError(f"alpha={self.alpha} must be >= 0: it is the power of saliency")
        if self.combined not in get_args(Combined):
            raise ValueError(f"combined={self.combined!r} must be one of {', '.join(get_args(Combined))}")
        if self.heads < 1:
            raise ValueError(f"heads={self.heads} must be >= 1: attention is summed over so many")

    def saliency(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """[CLS] attention, the sum over heads; >= 0."""
        return self.heads * evidence.cls_attention

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """One step per visual token, each as large as the square of their number."""
        return self.first(evidence)

    def first(self, evidence: Evidence, n: int | None = None) -> Float[Tensor, "batch vision"]:
        """The first `n` places, see `first_picks`."""
        real = evidence.vision_mask
        unit = normalize(evidence.tower_features().float().masked_fill(~real[..., None], 0.0), dim=-1)
        cosine, weight = unit @ unit.mT, self.saliency(evidence) ** self.alpha
        covered = torch.zeros_like(weight)

        def value() -> Tensor:
            gain = (cosine - covered[:, None]).relu_().sum(-1)  # cosines are symmetric: sum along the rows
            return gain * weight if self.combined == "multi" else gain + weight

        def after(_: int, pick: Pick) -> Tensor:
            nonlocal covered
            covered = covered.maximum(row_at(cosine, pick))
            return value()

        return picking_order(real, value(), after, n)
