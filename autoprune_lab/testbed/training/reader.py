"""The training forward: all questions of a scene behind one picture, through the model's own weights (`layer.py`).

Each question sees `<s> USER: picture` and itself, at the positions it would have alone, so the logits equal those of
separate prompts. Attention rows that a loss asks for are computed again for those rows only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from autoprune_lab.testbed.training.layer import Rows, attend, finish, project

NONE = -100  # no target


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
    """The question tokens of a batch without their padding, one behind the other, and one token of padding last."""

    tokens: Tensor  # n
    positions: Tensor  # n
    targets: Tensor  # n: the next token, or NONE
    number: Tensor  # n: flat question number, -1 for the padding
    looked: Tensor  # B Q R: index of each looked-at row
    rows: Rows


@dataclass(frozen=True)
class Reading:
    """What one forward saw; layers are numbered from 0, `hidden[l]` is the output of layer l at the rows."""

    logits: Tensor  # answers V
    targets: Tensor  # answers
    segment: Tensor  # answers: flat question number
    rows: Tensor  # B Q R: column of each looked-at row in `attention`
    attention: dict[int, Tensor]  # layer -> B heads Q R PREFIX+T: over the prefix and the question's own T tokens
    hidden: dict[int, Tensor]  # layer -> B Q R hidden
    vision_rms: Tensor  # layers + 1
    projected: Tensor  # B P hidden
    cls: Tensor  # B * views, vision hidden


def pack(lessons: Lessons) -> Packed:
    """Drop the padding of the questions and set them one behind the other."""
    batch, n_questions, _ = lessons.tokens.shape
    n_prefix = len(lessons.prefix)
    real = lessons.tokens != 0
    lengths = real.sum(-1)
    ends = lengths.flatten().cumsum(0).view_as(lengths)
    starts, last = ends - lengths, int(lengths.sum())
    b, q, t = real.nonzero(as_tuple=True)
    return Packed(
        F.pad(lessons.tokens[real], (0, 1)),
        F.pad(n_prefix + t, (0, 1)),
        F.pad(lessons.targets[real], (0, 1), value=NONE),
        F.pad(b * n_questions + q, (0, 1), value=-1),
        starts[..., None] + lessons.rows,
        Rows((batch, n_prefix), _runs(starts[:, 0], ends[:, -1], last), _runs(starts, ends, last)),
    )


def _runs(starts: Tensor, ends: Tensor, padding: int) -> Tensor:
    """(..., longest): the numbers from each start up to its end, then `padding`."""
    numbers = starts[..., None] + torch.arange(int((ends - starts).max()), device=starts.device)
    return numbers.where(numbers < ends[..., None], padding)


def look_at_picture(model: LlavaForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Projected patch features of all views (B, P, hidden) and the tower's [CLS] outputs (B * views, hidden)."""
    seen = model.model.vision_tower(pixels.flatten(0, -4)).last_hidden_state
    projected = model.model.multi_modal_projector(seen[:, 1:])
    return projected.reshape(len(pixels), -1, projected.shape[-1]), seen[:, 0]


def read(
    model: LlavaForConditionalGeneration, lessons: Lessons, watched: frozenset[int], half: bool = False
) -> Reading:
    """Run the whole model; attention rows are kept for the `watched` layers. `half`: decoder matrices in bfloat16."""
    packed, n_prefix = pack(lessons), len(lessons.prefix)
    rows, batch = packed.rows, len(lessons.tokens)
    decoder = model.model.language_model
    projected, cls = look_at_picture(model, lessons.pixels)
    opening = decoder.embed_tokens(torch.tensor(lessons.prefix[:2], device=cls.device)).expand(batch, -1, -1)
    prefix = torch.cat([opening, projected], dim=1)
    hidden = torch.cat([prefix.flatten(0, 1), decoder.embed_tokens(packed.tokens)])
    positions = torch.cat([torch.arange(n_prefix, device=cls.device).repeat(batch), packed.positions])
    cos, sin = (part[0] for part in decoder.rotary_emb(hidden, positions[None]))
    attention, outputs, rms = {}, {}, [_rms(projected)]
    for i, layer in enumerate(decoder.layers):
        qkv = project(layer, hidden, cos, sin, half)
        if i in watched:
            attention[i] = _attention_rows(qkv, packed)
        hidden = finish(layer, hidden, attend(qkv, rows), half)
        if i in watched:
            outputs[i] = _take(hidden, rows.start + packed.looked)
        rms.append(_rms(hidden[: rows.start].view_as(prefix)[:, 2:]))
    answers = (packed.targets != NONE).nonzero()[:, 0]
    logits = model.lm_head(decoder.norm(_take(hidden, rows.start + answers)))
    columns = n_prefix + lessons.rows
    targets, number = packed.targets[answers], packed.number[answers]
    return Reading(logits, targets, number, columns, attention, outputs, torch.stack(rms), projected, cls)


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


def _attention_rows(qkv: Tensor, packed: Packed) -> Tensor:
    """Probabilities of the looked-at rows over prefix and own question: B heads Q R PREFIX+T."""
    rows, text = packed.rows, qkv[packed.rows.start :]
    keys = qkv[: rows.start, 1].view(*rows.prefix, *qkv.shape[2:]).permute(0, 2, 3, 1)  # B heads dim PREFIX
    query = _take(text[:, 0], packed.looked).permute(0, 3, 1, 2, 4) * qkv.shape[-1] ** -0.5  # B heads Q R dim
    own = query @ _take(text[:, 1], rows.segments).permute(0, 3, 1, 4, 2)  # B heads Q R T
    later = rows.segments[:, :, None] > packed.looked[..., None]  # B Q R T
    score = torch.cat([(query.flatten(2, 3) @ keys).view(*own.shape[:-1], -1), own], dim=-1)
    return score.masked_fill(F.pad(later, (rows.prefix[1], 0))[:, None], float("-inf")).softmax(-1)


def _rms(x: Tensor) -> Tensor:
    return x.detach().square().mean().sqrt()
