"""The training forward: all questions of a scene in one sequence, through the model's own layers.

Each question sees `<s> USER: picture` and itself, at the positions it would have alone, so the logits equal those of
separate prompts. Attention rows that a loss asks for are computed again for those rows only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

NONE = -100  # no target
PAD_TO = 8


@runtime_checkable
class Lessons(Protocol):
    """What the packed forward needs of a batch: B scenes, Q questions of T tokens, R looked-at rows."""

    @property
    def prefix(self) -> Sequence[int]:
        """Tokens before every question: <s> USER: and the picture's placeholders."""

    @property
    def pixels(self) -> Tensor:
        """(B, 3, height, width), or (B, views, 3, height, width)."""

    @property
    def tokens(self) -> Tensor:
        """(B, Q, T), 0 = padding."""

    @property
    def targets(self) -> Tensor:
        """(B, Q, T): the next token where an answer is learned, else NONE."""

    @property
    def rows(self) -> Tensor:
        """(B, Q, R): token index in the segment."""


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
    cls: Tensor  # B * views, vision hidden


def pack(lessons: Lessons) -> Packed:
    """Drop the padding of the questions and set them one behind the other."""
    batch, n_questions, _ = lessons.tokens.shape
    device = lessons.tokens.device
    prefix = torch.tensor(lessons.prefix, device=device)
    n_prefix = len(prefix)
    real = lessons.tokens != 0
    lengths = real.sum(-1)
    starts = n_prefix + lengths.cumsum(1) - lengths
    total = n_prefix + int(-(-int(lengths.sum(1).max()) // PAD_TO) * PAD_TO)
    tokens = torch.zeros(batch, total, dtype=torch.long, device=device)
    tokens[:, :n_prefix] = prefix
    positions = torch.arange(n_prefix, device=device).repeat(batch, 1)
    positions = F.pad(positions, (0, total - n_prefix))
    segment = torch.full((batch, total), n_questions, device=device)
    segment[:, :n_prefix] = -1
    targets = torch.full((batch, total), NONE, device=device)
    b, q, t = real.nonzero(as_tuple=True)
    slot = starts[b, q] + t
    tokens[b, slot] = lessons.tokens[b, q, t]
    targets[b, slot] = lessons.targets[b, q, t]
    positions[b, slot] = n_prefix + t
    segment[b, slot] = q
    causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    mask = causal & ((segment[:, None, :] == -1) | (segment[:, None, :] == segment[:, :, None]))
    return Packed(tokens, positions, mask[:, None], starts[..., None] + lessons.rows, targets, segment)


def look_at_picture(model: LlavaForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Projected patch features of all views (B, P, hidden) and the tower's [CLS] outputs (B * views, hidden)."""
    seen = model.model.vision_tower(pixels.flatten(0, -4)).last_hidden_state
    projected = model.model.multi_modal_projector(seen[:, 1:])
    return projected.reshape(len(pixels), -1, projected.shape[-1]), seen[:, 0]


def read(model: LlavaForConditionalGeneration, lessons: Lessons, watched: frozenset[int]) -> Reading:
    """Run the whole model; attention rows are kept for the `watched` layers."""
    packed, n_prefix = pack(lessons), len(lessons.prefix)
    decoder = model.model.language_model
    projected, cls = look_at_picture(model, lessons.pixels)
    text = decoder.embed_tokens(packed.tokens)
    hidden = torch.cat([text[:, :2], projected, text[:, n_prefix:]], dim=1)
    rotary = decoder.rotary_emb(hidden, packed.positions)
    attention, outputs, rms = {}, {}, [_rms(projected)]
    for i, layer in enumerate(decoder.layers):
        if i in watched:
            attention[i] = _attention_rows(layer, hidden, rotary, packed)
        hidden = layer(hidden, attention_mask=packed.mask, position_embeddings=rotary)
        if i in watched:
            outputs[i] = _take_rows(hidden, packed.rows)
        rms.append(_rms(hidden[:, 2:n_prefix]))
    b, n = (packed.targets != NONE).nonzero(as_tuple=True)
    logits = model.lm_head(decoder.norm(hidden[b, n]))
    number = b * lessons.tokens.shape[1] + packed.segment[b, n]
    return Reading(
        logits, packed.targets[b, n], number, packed.rows, attention, outputs, torch.stack(rms), projected, cls
    )


def _take_rows(hidden: Tensor, rows: Tensor) -> Tensor:
    batch = torch.arange(len(rows), device=rows.device)[:, None, None]
    return hidden[batch, rows]


def _attention_rows(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], packed: Packed) -> Tensor:
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
    score: Tensor = query @ key.transpose(-1, -2) * attn.scaling
    score = score.masked_fill(~packed.mask[here, :, flat].transpose(1, 2), float("-inf"))
    return score.softmax(-1).view(batch, -1, n_questions, n_rows, score.shape[-1])


def _rms(x: Tensor) -> Tensor:
    return x.detach().square().mean().sqrt()
