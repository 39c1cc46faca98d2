"""TRIM: the tokens most alike the text, and the mean of all others."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer, TowerLayer, tower_layers_of
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.groups import Groups
from autoprune_lab.selection.recovery import Survivors, best
from autoprune_lab.selection.scorers import text_likeness


@dataclass(frozen=True)
class Trim:
    """The softmax of `similarity` over a sample's visual tokens, in [0, 1]; they sum to 1.

    Source: arXiv 2409.10994, and github.com/FreedomIntelligence/TRIM at f5a232d.
    Differs: TRIM's similarity is the negative dot product of CLIP's embeddings of patch and prompt; decoders do not
    have CLIP's text tower, so by default it is `text_likeness`, and any scorer may take its place. TRIM keeps the
    outliers of these scores; here `Budget` says how many stay.
    """

    similarity: Scorer = text_likeness

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """Those of `similarity`."""
        return tower_layers_of(self.similarity)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """See the class; 0 at padding."""
        real = evidence.vision_mask
        scores = self.similarity(evidence).float()
        return scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(-1) * real


@dataclass(frozen=True)
class MeanOfDropped:
    """One of the allowed tokens is the mean of all that are dropped; all of them, where one is allowed.

    `in_place`: it takes the place and position of the best scored dropped token; otherwise it stands behind all kept
    ones, which needs compact positions.

    Source: arXiv 2409.10994 (TRIM), and github.com/FreedomIntelligence/TRIM at f5a232d.
    Differs: TRIM takes the mean of the vision tower's features before the projector, here that of hidden states; the
    mean is one of the allowed tokens, there it comes on top. The official code fails where nothing is dropped; here
    there is no mean then.
    """

    in_place: bool = False

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """One of what is allowed is the mean, unless nothing is dropped or allowed."""
        merged = ((allowed < present) & (allowed > 0)).astype(allowed.dtype)
        return allowed - merged, np.asarray(merged)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Keep the `kept` best scored tokens of each sample, and the mean of the others where `merged` is 1."""
        keep, next_best = best(evidence, scores, kept), best(evidence, scores, kept + merged)
        dropped = evidence.vision_mask & ~keep
        total = evidence.hidden.float().masked_fill(~dropped[..., None], 0.0).sum(1, keepdim=True)
        mean = total / dropped.sum(1).clamp(min=1)[:, None, None]
        slot = (next_best & ~keep).byte().argmax(1, keepdim=True)
        return Groups(slot, (merged > 0)[:, None], mean).among(evidence, keep, self.in_place)
