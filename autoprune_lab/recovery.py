"""Recovery: which tokens fill the planned counts, and what becomes of the rest.

Any function of `drop`'s type is one.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence import Evidence


class Survivors(NamedTuple):
    """Exactly the planned count of slots per sample; `hidden`, if given, replaces the visual hidden states.

    A slot that stays keeps its place and position in the sequence. A recovery that merges tokens therefore
    chooses the slots its merged tokens will live in, and they count like any other.
    """

    keep: Bool[Tensor, "batch vision"]
    hidden: Float[Tensor, "batch vision hidden"] | None = None


def drop(evidence: Evidence, scores: Float[Tensor, "batch vision"], counts: Int[Tensor, "batch"]) -> Survivors:
    """Keep each sample's `counts` best scored tokens and forget the rest."""
    return Survivors(top_n(scores.masked_fill(~evidence.vision_mask, -torch.inf), counts))


def top_n(scores: Float[Tensor, "batch vision"], counts: Int[Tensor, "batch"]) -> Bool[Tensor, "batch vision"]:
    """True at each row's `counts` highest scores, ties towards the lower index; NaN counts as highest."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    wanted = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
    return torch.zeros_like(wanted).scatter(1, order, wanted)
