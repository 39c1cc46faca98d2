"""Complexity estimators: Evidence -> one number per sample, in bits. Any function of that type is one.

A text row's attention over the visual tokens, renormalised to sum to 1, is p(v|t). A row whose visual mass is
below `_LEAST_MASS` saw no visual token (softmax underflowed, or none is visible): that head leaves the row
out. A head without rows, and so a sample without visual tokens, has 0 bits.
"""

from collections.abc import Iterable
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, sum_of

_LEAST_MASS = 1e-30  # below it float32 has no digits left to renormalise with
_OFFICIAL_EPS = 1e-6
_LN2 = 0.6931471805599453


def mutual_information(evidence: Evidence) -> Float[Tensor, "batch"]:
    """I(text; vision) in bits, mean over heads: how differently the text rows look at the image.

    MI = mean_t KL(p(v|t) || p(v)) with p(v) = mean_t p(v|t), text rows uniform; computed in float32 as
    H(mean_t p) - mean_t H(p). 0 <= MI <= log2(min(rows, vision)).

    Source: arXiv 2509.23931 (AutoPrune), mutual information between visual and text tokens.
    Differs: the official code sums over heads, does not renormalise the rows (a row's visual mass then counts
    as information) and adds 1e-6 to the denominator (a bias that grows with the prompt length): see
    `mutual_information_official`.
    """
    return _mutual_information(evidence.row_chunks())


def attention_entropy(evidence: Evidence) -> Float[Tensor, "batch"]:
    """Mean over heads and text rows of the entropy of p(v|t), in bits; in [0, log2(vision)]."""
    return _mean_entropy(evidence.row_chunks())


def constant(evidence: Evidence, bits: float = 0.0) -> Float[Tensor, "batch"]:
    """The same `bits` for every sample: makes a fixed policy of any adaptive one, to see what adaptivity is worth."""
    return torch.full((len(evidence.index),), bits, device=evidence.index.device)


def rows_mutual_information(
    attention: Float[Tensor, "batch heads rows vision"], text_mask: Bool[Tensor, "batch rows"]
) -> Float[Tensor, "batch"]:
    """`mutual_information` of plain tensors: attention >= 0, exactly 0 at padding; rows need not sum to 1."""
    return _mutual_information([(attention, text_mask)])


def rows_entropy(
    attention: Float[Tensor, "batch heads rows vision"], text_mask: Bool[Tensor, "batch rows"]
) -> Float[Tensor, "batch"]:
    """`attention_entropy` of plain tensors."""
    return _mean_entropy([(attention, text_mask)])


def mutual_information_official(evidence: Evidence) -> Float[Tensor, "batch"]:
    """The official code's number, in bits: eps-biased, rows as they are, *summed* over heads; may be < 0.

    Per head: p(t) = 1/T, p(t,v) = A/T, MI = sum p(t,v) log2(max(p(t,v) / (p(t) p(v) + 1e-6), 1e-6)); float32.
    A sample without visual tokens has 0 bits. `estimator_gap` says what lies between it and `mutual_information`.

    Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918.
    Differs: the official code computes in the model's dtype, half precision in practice.
    """
    lengths = zip(evidence.row_counts.tolist(), evidence.counts.tolist(), strict=True)
    real = [attention[:, :rows, :vision] for attention, (rows, vision) in zip(evidence.attention, lengths, strict=True)]
    return torch.stack([_official_bits(one) if one.numel() else one.new_zeros(()) for one in real])


def official_bits(attention: Float[Tensor, "heads text vision"]) -> float:
    """`mutual_information_official` of one sample's plain attention."""
    if attention.shape[1] == 0:
        raise ValueError("attention has 0 text rows: mutual information needs at least one")
    return float(_official_bits(attention))


def _official_bits(attention: Float[Tensor, "heads text vision"]) -> Float[Tensor, ""]:
    p_text = 1 / attention.shape[1]
    joint = p_text * attention.float()
    ratio = joint / (p_text * joint.sum(1, keepdim=True) + _OFFICIAL_EPS)
    per_head = (joint * torch.log2(ratio.clamp(min=_OFFICIAL_EPS))).flatten(1).sum(1)
    return sum_of(per_head)  # head by head, as the official loop rounds


def _mutual_information(parts: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, "batch"]:
    """Of rows that come part by part: attention (batch, heads, part, vision), and the real ones (batch, part)."""
    n_rows, total, entropies = _sums(parts)
    marginal = total / n_rows[..., None]
    per_head = entropy(marginal) - entropies / n_rows
    return per_head.clamp(min=0).mean(-1)


def _mean_entropy(parts: Iterable[tuple[Tensor, Tensor]]) -> Float[Tensor, "batch"]:
    n_rows, _, entropy = _sums(parts)
    return (entropy / n_rows).mean(-1)


def _sums(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that see the image, at least 1, the sum of their p(v|t), (batch, heads, vision), and of their entropies."""
    each = (_sums_of(*part) for part in parts)
    n_rows, total, entropy = reduce(lambda held, new: (held[0] + new[0], held[1] + new[1], held[2] + new[2]), each)
    return n_rows.clamp(min=1), total, entropy


def _sums_of(attention: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p, seen = conditional(attention, text_mask)
    return seen.sum(-1), p.sum(-2), entropy(p).sum(-1)


def conditional(attention: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
    """p(v|t) in float32, (batch, heads, rows, vision), and which rows see the image, (batch, heads, rows)."""
    a = attention.float()
    mass = a.sum(-1)
    seen = ~(mass < _LEAST_MASS) & text_mask[:, None]  # written so that NaN counts as seen and stays visible
    p = torch.where(seen[..., None], a / mass[..., None], 0.0)
    return p, seen


def entropy(p: Tensor) -> Tensor:
    """Entropy of the last axis, in bits; 0 * log 0 = 0."""
    nats: Tensor = torch.special.entr(p).sum(-1)
    return nats / _LN2
