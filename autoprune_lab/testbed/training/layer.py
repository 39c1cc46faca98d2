"""One stock Llama layer in training: the same weights and the same output, at less cost.

Source: transformers, `LlamaDecoderLayer` (no biases, as many key heads as query heads: all that `build` makes).
Differs: rows are flat, so nothing is padded but inside the attention: all prefixes, scene by scene, then all question
tokens, then one row of padding. No mask: a question sees the prefix and itself, so it attends to the keys of the prefix
and to its own, and the two are joined by their log-sums.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# The operators behind `scaled_dot_product_attention` on CPUs, which alone give the log-sums.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Rows:
    """How flat rows stand together; numbers count from the first question token, padding is the last row.

    No loss may depend on the row of padding.
    """

    prefix: tuple[int, int]  # scenes, tokens of each prefix
    scenes: Tensor  # B M: the question tokens of each scene
    segments: Tensor  # B Q T: the tokens of each question

    @property
    def start(self) -> int:
        """The first question token among the flat rows."""
        return self.prefix[0] * self.prefix[1]


def project(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor, half: bool) -> Tensor:
    """Query, key (both turned) and value of every row: (rows, 3, heads, dim); `cos`, `sin`: (rows, dim).

    `half`: matrices in bfloat16, faster on CPUs with its instructions; attention is slower in it and stays in float32.
    """
    attn = layer.self_attn
    weight = torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight])
    qkv = _product(_norm(layer.input_layernorm, hidden), weight, half).float().view(len(hidden), 3, -1, attn.head_dim)
    turned: Tensor = _Turn.apply(qkv, cos, sin)  # type: ignore[no-untyped-call]
    return turned


def finish(layer: Any, hidden: Tensor, attended: Tensor, half: bool) -> Tensor:
    """The rest of the layer behind its attention; all (rows, hidden)."""
    hidden = hidden + _product(attended, layer.self_attn.o_proj.weight, half)
    mlp, normed = layer.mlp, _norm(layer.post_attention_layernorm, hidden)
    gate, up = _product(normed, mlp.gate_proj.weight, half), _product(normed, mlp.up_proj.weight, half)
    return hidden + _product(F.silu(gate) * up, mlp.down_proj.weight, half)


def attend(qkv: Tensor, rows: Rows) -> Tensor:
    """What every row fetches from its prefix and its own question: (rows, heads * dim)."""
    attended: Tensor = _Attend.apply(qkv, rows)  # type: ignore[no-untyped-call]
    return attended.flatten(1)


def _product(x: Tensor, weight: Tensor, half: bool) -> Tensor:
    return F.linear(x.bfloat16(), weight.bfloat16()) if half else F.linear(x, weight)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


class _Turn(torch.autograd.Function):
    """Rotary embedding of query and key; the backward turns back."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(qkv, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, -sin), None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    width = qkv.shape[-1] // 2
    cos, sin = cos[:, None, None, :width], sin[:, None, None, :width]
    out = qkv.clone()
    one, two = qkv[:, :2, :, :width], qkv[:, :2, :, width:]
    out[:, :2, :, :width].mul_(cos).addcmul_(two, sin, value=-1)
    out[:, :2, :, width:].mul_(cos).addcmul_(one, sin)
    return out


class _Attend(torch.autograd.Function):
    """Attention over disjoint groups of keys. Given the joint output and log-sum, the backward of each is exact."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rows: Rows) -> Tensor:
        text, first, own = qkv[rows.start :], _prefixes(qkv, rows), _gather(qkv[rows.start :], rows.segments)
        out, lse = qkv.new_empty(qkv[:, 0].shape), qkv.new_empty(qkv.shape[0], qkv.shape[2])
        for x, part in zip((out, lse), _flash(*first, 0.0, True), strict=True):
            x[: rows.start].view(*rows.prefix, *x.shape[1:]).copy_(part.transpose(1, 2))
        _, key, value = first
        seen, mass = (
            _scatter(x, rows.scenes, text) for x in _flash(_gather(text[:, 0], rows.scenes), key, value, 0.0, False)
        )
        own_seen, own_mass = (_scatter(x, rows.segments, text) for x in _flash(*own, 0.0, True))
        joint = torch.logaddexp(mass, own_mass, out=lse[rows.start :])
        torch.mul(seen, (mass - joint).exp()[..., None], out=out[rows.start :])
        out[rows.start :].addcmul_(own_seen, (own_mass - joint).exp()[..., None])
        lse[-1] = float("inf")  # the padding attended to nothing, whichever block it was taken from
        ctx.save_for_backward(qkv, out, lse)
        ctx.rows = rows
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        qkv, out, lse = ctx.saved_tensors
        rows: Rows = ctx.rows
        text, first, own = qkv[rows.start :], _prefixes(qkv, rows), _gather(qkv[rows.start :], rows.segments)
        found, known = torch.empty_like(qkv), (grad, out, lse)
        _, key, value = first
        of_prefix, out_prefix, lse_prefix = (
            x[: rows.start].view(*rows.prefix, *x.shape[1:]).transpose(1, 2) for x in known
        )
        parts = _flash_backward(of_prefix, *first, out_prefix, lse_prefix, 0.0, True)
        of_scene, out_scene, lse_scene = (_gather(x[rows.start :], rows.scenes) for x in known)
        query = _gather(text[:, 0], rows.scenes)
        cross = _flash_backward(of_scene, query, key, value, out_scene, lse_scene, 0.0, False)
        into = _prefixes(found, rows)
        for x, part, more in zip(into, parts, (None, *cross[1:]), strict=True):
            x.copy_(part if more is None else part + more)
        of_own, out_own, lse_own = (_gather(x[rows.start :], rows.segments) for x in known)
        segments = torch.stack(_flash_backward(of_own, *own, out_own, lse_own, 0.0, True), dim=1)
        found[rows.start :] = _scatter(segments, rows.segments, text)
        found[rows.start :, 0] += _scatter(cross[0], rows.scenes, text)
        return found, None


def _prefixes(qkv: Tensor, rows: Rows) -> Tensor:
    """The prefixes' query, key, value: a view, 3 B heads N dim."""
    return qkv[: rows.start].view(*rows.prefix, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Flat rows to blocks: heads stand before tokens, (groups, heads, tokens, ...); 3 before all where there are 3."""
    index = index.view(-1, index.shape[-1])
    block = x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])
    return block.permute(2, 0, 3, 1, 4) if block.ndim == 5 else block.transpose(1, 2)


def _scatter(block: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Blocks to flat rows; the row of padding is any of those that stood for it."""
    flat = block.movedim(3 if block.ndim == 5 else 2, 1).flatten(0, 1)
    return flat.new_zeros(len(like), *flat.shape[1:]).index_copy_(0, index.flatten(), flat)
