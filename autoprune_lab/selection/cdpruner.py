"""CDPruner: tokens that are relevant and unlike each other, by a determinantal point process."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence, Scorer, TowerLayer, tower_layers_of
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.greedy import Pick, extent, picking_order, row_at
from autoprune_lab.selection.scorers import text_likeness

_EPS = 1e-6  # the official code's
_SPENT = 1e-5  # a token of which less than this part lies outside of the picked ones' span is rounding noise


@dataclass(frozen=True)
class Cdpruner:
    """Minus the place at which greedy maximum a posteriori selection of a DPP picks a token.

    The kernel is r_i cos(i, j) r_j of the hidden states, where r is `relevance` scaled to [0, 1] in each sample; where
    all are equal it is 1. Each pick is the token of which most, times r squared, lies outside of the span of those
    picked before. Once they span everything the rest follows by relevance.

    Source: arXiv 2506.10967, and github.com/Theia-4869/CDPruner at 9541616.
    Differs: CDPruner's relevance is the negative cosine of CLIP's embeddings of patch and prompt, mean over pieces of
    the prompt; decoders do not have CLIP's text tower, so by default it is `text_likeness`, and any scorer may take
    its place. It is scaled over the batch there. Where picks span everything the official code goes on with rounding
    noise and may keep fewer tokens than it was asked for. `Budget` says how many stay.
    """

    relevance: Scorer = text_likeness

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """Those of `relevance`."""
        return tower_layers_of(self.relevance)

    def scaled(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """Relevance, > 0, from near 0 to near 1 in each sample; 0 at padding."""
        scores = self.relevance(evidence).float()
        low, span = extent(scores, evidence.vision_mask)
        return torch.where(span > 0, (scores - low + _EPS) / span, 1.0).masked_fill(~evidence.vision_mask, 0.0)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """One step per visual token, each as large as those before times their number."""
        return self.first(evidence)

    def first(self, evidence: Evidence, n: int | None = None) -> Float[Tensor, "batch vision"]:
        """The first `n` places, see `first_picks`."""
        weight, unit = self.scaled(evidence), normalize(visual(evidence), dim=-1)
        kernel = weight[..., None] * (unit @ unit.mT) * weight[:, None]
        own = kernel.diagonal(dim1=1, dim2=2)
        outside, basis = own, torch.zeros_like(kernel[:, :n])

        def value() -> Tensor:
            return torch.where(outside > _SPENT * own, outside, -1 / (1 + weight))

        def after(place: int, pick: Pick) -> Tensor:
            nonlocal outside
            past = basis[:, :place]
            new = row_at(kernel, pick) - (past.take_along_dim(pick[..., None], 2).mT @ past)[:, 0]
            length = outside.gather(1, pick)
            there = length > _SPENT * own.gather(1, pick)
            basis[:, place] = torch.where(there, new / length.where(there, 1.0).sqrt(), 0.0)
            outside = outside - basis[:, place] ** 2
            return value()

        return picking_order(evidence.vision_mask, value(), after, n)
