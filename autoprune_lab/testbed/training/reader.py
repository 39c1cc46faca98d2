"""The training forward: all questions of a scene in one sequence, through the model's own layers.

Each question sees `<s> USER: picture` and itself, at the positions it would have alone, so the logits equal those of
separate prompts. Attention rows that a loss asks for are computed again for those rows only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from autoprune_lab.testbed.training.lessons import NONE, PREFIX, PREFIX_TOKENS, Lessons

PAD_TO = 8


@dataclass(frozen=True)
class Packed:
    """Where every token of a batch sits in the packed sequence; N = PREFIX + packed question tokens."""

    tokens: Tensor  # B N
    positions: Tensor  # B N
    mask: Tensor  # B 1 N N, True = may attend
    rows: Tensor  # B Q R: packed index of each looked-at row
    targets: Tensor  # B N
    segment: Tensor  # B N: question number, -1 in the prefix, Q in the padding


@dataclass(frozen=True)
class Reading:
    """What one forward saw; layers are numbered from 0, `hidden[l]` is the output of layer l at the rows."""

    logits: Tensor  # answers V
    targets: Tensor  # answers
    segment: Tensor  # answers: flat question number
    rows: Tensor  # B Q R: packed index of each looked-at row
    attention: dict[int, Tensor]  # layer -> B heads Q R N
    hidden: dict[int, Tensor]  # layer -> B Q R hidden
    vision_rms: Tensor  # layers + 1
    projected: Tensor  # B P hidden
    cls: Tensor  # B vision hidden


def pack(lessons: Lessons) -> Packed:
    """Drop the padding of the questions and set them one behind the other."""
    batch, n_questions, _ = lessons.tokens.shape
    device = lessons.tokens.device
    real = lessons.tokens != 0
    lengths = real.sum(-1)
    starts = PREFIX + lengths.cumsum(1) - lengths
    total = PREFIX + int(-(-int(lengths.sum(1).max()) // PAD_TO) * PAD_TO)
    tokens = torch.zeros(batch, total, dtype=torch.long, device=device)
    tokens[:, :PREFIX] = torch.tensor(PREFIX_TOKENS, device=device)
    positions = torch.arange(PREFIX, device=device).repeat(batch, 1)
    positions = F.pad(positions, (0, total - PREFIX))
    segment = torch.full((batch, total), n_questions, device=device)
    segment[:, :PREFIX] = -1
    targets = torch.full((batch, total), NONE, device=device)
    b, q, t = real.nonzero(as_tuple=True)
    slot = starts[b, q] + t
    tokens[b, slot] = lessons.tokens[b, q, t]
    targets[b, slot] = lessons.targets[b, q, t]
    positions[b, slot] = PREFIX + t
    segment[b, slot] = q
    causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    mask = causal & ((segment[:, None, :] == -1) | (segment[:, None, :] == segment[:, :, None]))
    return Packed(tokens, positions, mask[:, None], starts[..., None] + lessons.rows, targets, segment)


def look_at_picture(model: LlavaForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Projected patch features (B, P, hidden) and the tower's [CLS] output (B, vision hidden)."""
    seen = model.model.vision_tower(pixels).last_hidden_state
    return model.model.multi_modal_projector(seen[:, 1:]), seen[:, 0]


def read(model: LlavaForConditionalGeneration, lessons: Lessons, watched: frozenset[int]) -> Reading:
    """Run the whole model; attention rows are kept for the `watched` layers."""
    packed = pack(lessons)
    decoder = model.model.language_model
    projected, cls = look_at_picture(model, lessons.pixels)
    text = decoder.embed_tokens(packed.tokens)
    hidden = torch.cat([text[:, :2], projected, text[:, PREFIX:]], dim=1)
    rotary = decoder.rotary_emb(hidden, packed.positions)
    attention, outputs, rms = {}, {}, [_rms(projected)]
    for i, layer in enumerate(decoder.layers):
        if i in watched:
            attention[i] = _attention_rows(layer, hidden, rotary, packed)
        hidden = layer(hidden, attention_mask=packed.mask, position_embeddings=rotary)
        if i in watched:
            outputs[i] = _take_rows(hidden, packed.rows)
        rms.append(_rms(hidden[:, 2:PREFIX]))
    b, n = (packed.targets != NONE).nonzero(as_tuple=True)
    logits = model.lm_head(decoder.norm(hidden[b, n]))
    number = b * lessons.tokens.shape[1] + packed.segment[b, n]
    return Reading(
        logits, packed.targets[b, n], number, packed.rows, attention, outputs, torch.stack(rms), projected, cls
    )


def _take_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    batch = torch.arange(len(rows), device=rows.device)[:, None, None]
    return hidden[batch, rows]


def _attention_rows(layer: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor], packed: Packed) -> Tensor:
    """Probabilities of the looked-at rows over all tokens: B heads Q R N."""
    batch, n_questions, n_rows = packed.rows.shape
    flat = packed.rows.flatten(1)
    here = torch.arange(batch, device=flat.device)[:, None]
    normed = layer.input_layernorm(hidden)
    attn = layer.self_attn
    shape = (batch, -1, attn.config.num_attention_heads, attn.head_dim)
    query = attn.q_proj(normed[here, flat]).view(shape).transpose(1, 2)
    key = attn.k_proj(normed).view(shape).transpose(1, 2)
    cos, sin = rotary
    query, _ = apply_rotary_pos_emb(query, query, cos[here, flat], sin[here, flat])
    key, _ = apply_rotary_pos_emb(key, key, cos, sin)
    score = query @ key.transpose(-1, -2) * attn.scaling
    score = score.masked_fill(~packed.mask[here, :, flat].transpose(1, 2), float("-inf"))
    return score.softmax(-1).view(batch, -1, n_questions, n_rows, score.shape[-1])


def _rms(x: Tensor) -> Tensor:
    return x.detach().square().mean().sqrt()
