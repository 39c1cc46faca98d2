"""Scorers: Evidence -> one score per visual token, higher = keep. Any function of that type is one.

Ties are broken towards the lower index. Scores at padding are ignored.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence, sum_of
from autoprune_lab.selection.diversity import visual

_GOLDEN_RATIO = 0.6180339887498949


def text_attention(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that the text pays each visual token: mean over heads and text rows, in [0, 1].

    Source: arXiv 2509.23931 (AutoPrune) and 2410.04417 (SparseVLM).
    Differs: SparseVLM averages over chosen rows, see `rater_attention`; AutoPrune adds the [CLS] attention at its
    first layer.
    """
    n_rows = evidence.text_mask.sum(-1, keepdim=True).clamp(min=1)
    return sum_of(part.mean(1).sum(1) for part, _ in evidence.row_chunks()) / n_rows


def rater_attention(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that the raters pay each visual token: mean over heads and rater rows, in [0, 1].

    Raters are the text rows whose attention to all visual tokens is above the sample's mean over its text rows;
    every row where none is above.

    Source: arXiv 2410.04417 (SparseVLM).
    Differs: SparseVLM picks its raters once, before layer 0, by the dot products of the input embeddings (softmax
    over the text, mean over the visual tokens, above the mean); here each layer that cuts picks its own.
    """
    mass = torch.cat([part.mean(1).sum(-1) for part, _ in evidence.row_chunks()], dim=1)
    n_rows = evidence.text_mask.sum(-1, keepdim=True).clamp(min=1)
    above = evidence.text_mask & (mass > mass.sum(-1, keepdim=True) / n_rows)
    raters = torch.where(above.any(-1, keepdim=True), above, evidence.text_mask).unsqueeze(-1)
    total, start = torch.zeros_like(mass[:, :1]), 0
    for part, real in evidence.row_chunks():  # once more: all rows together are text x visual numbers
        total = total + (part.mean(1) * raters[:, start : start + real.shape[1]]).sum(1)
        start += real.shape[1]
    return total / raters.sum(1).clamp(min=1)


def prefill_attention(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that all of the prompt, visual tokens too, pays each visual token: mean over heads and rows, in [0, 1].

    It costs a row a visual token.

    Source: arXiv 2511.16449 (VLA-Pruner), its semantic relevance.
    Differs: rows before the first visual token, which see none, are no part of the mean here: the same ranking.
    """
    n_rows = (evidence.text_mask.sum(-1, keepdim=True) + evidence.vision_mask.sum(-1, keepdim=True)).clamp(min=1)
    text = sum_of(part.mean(1).sum(1) for part, _ in evidence.row_chunks())
    return (text + evidence.visual_rows[:, :, : text.shape[1]].sum(1)) / n_rows


def last_token_attention(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that the last prompt token pays each visual token: mean over heads, in [0, 1].

    Source: arXiv 2403.06764 (FastV) and 2410.17247 (PyramidDrop).
    """
    return evidence.last_row_mean


def cls_attention(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that the vision tower's [CLS] pays each patch: mean over heads, in [0, 1]; ignores the text.

    Source: arXiv 2412.01818 (FasterVLM).
    Differs: FasterVLM cuts before layer 0, here a cut is free from the layer after the probe on. It needs a
    [CLS]: where the tower has none (Qwen-VL, SigLIP) this is attention received, the mean over all patches of the
    picture. Where patches are merged into a token, their mean.
    """
    return evidence.cls_attention


def feature_norm(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """L2 norm of each visual hidden state entering the layer that cuts; >= 0."""
    norm: Tensor = evidence.hidden.float().norm(dim=-1)
    return norm


def text_likeness(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Cosine of each visual hidden state with the text rows', the mean over rows, in [-1, 1]; needs no attention."""
    n_rows = evidence.text_mask.sum(-1, keepdim=True).clamp(min=1)
    text = normalize(evidence.text.float().masked_fill(~evidence.text_mask[..., None], 0.0), dim=-1).sum(1) / n_rows
    return (normalize(visual(evidence), dim=-1) @ text[..., None])[..., 0]


def random(evidence: Evidence, seed: int = 0) -> Float[Tensor, "batch vision"]:
    """A pseudo-random score in [0, 1): a hash of seed and index, so neither batch nor layer changes it."""
    state = (evidence.index + 1) * 0x9E3779B1 + (seed + 1) * 0x85EBCA77
    for multiplier in (0x45D9F3B, 0x119DE1F3):
        state = ((state ^ (state >> 16)) * multiplier) & 0xFFFFFFFF
    return ((state ^ (state >> 16)) & 0xFFFFFF).float() / 2**24


def uniform(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Scores in (-1, 0] whose top n are spread evenly over the token sequence, for every n.

    The n smallest fractional parts of i * golden ratio: gaps between neighbours take at most three sizes.
    """
    return -((evidence.index.double() * _GOLDEN_RATIO) % 1.0)
