"""How the official AutoPrune code chooses at its first cut."""

from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.complexity import mutual_information_official
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.scorers import text_attention


def official_opening(evidence: Evidence, weight: float = 0.3) -> Float[Tensor, "batch vision"]:
    """[CLS] attention + `weight` * bits per text row * text attention.

    The bits are `mutual_information_official` of the layer before the cut, divided by the number of text rows: a
    number so small, and at times below 0, that [CLS] nearly always decides.

    Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918.
    Differs: where the vision tower has no [CLS], attention received takes its place, see `scorers.cls_attention`.
    """
    per_row = mutual_information_official(evidence) / evidence.text_mask.sum(1).clamp(min=1)
    return evidence.cls_attention + weight * per_row[:, None] * text_attention(evidence)
