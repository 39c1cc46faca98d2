"""Rotary positions after a cut: kept tokens keep their own (`original`), or are renumbered (`compact`)."""

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from autoprune_lab.decoder.anatomy import Anatomy, made_by
from autoprune_lab.decoder.checks import form
from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.mixers import attention_of
from autoprune_lab.decoder.signatures import names_of
from autoprune_lab.decoder.temperature import counts_places

Rotary = tuple[Tensor, Tensor]


def rotary_table(rotary: Rotary) -> Tensor:
    """(cos, sin), each (1 or batch, positions, dim), side by side: (positions, 2 dim) where all samples share them."""
    table = torch.cat(rotary, dim=-1)
    return table[0] if len(table) == 1 else table


def original_rotary(table: Tensor, stage: Stage, samples: Tensor) -> Rotary:
    """The rows of the stage's tokens, (cos, sin); `samples` (batch, 1) counts the samples."""
    cos, sin = (table[stage.index] if table.ndim == 2 else table[samples, stage.index]).chunk(2, dim=-1)
    return cos, sin


def compact_rotary(table: Tensor, stage: Stage) -> Rotary:
    """(cos, sin) by renumbered positions, (1 or batch, slots, dim) each; `table` (positions, 2 dim)."""
    rows = table[stage.renumbered] if stage.ragged else table[None, : stage.index.shape[1]]
    cos, sin = rows.chunk(2, dim=-1)
    return cos, sin


def compact_positions_since(ends: Tensor, since: Tensor, n_new: int) -> Tensor:
    """Positions of the last `n_new` real tokens `since` (batch, n), which go on behind the shorter prompts' `ends`.

    (stages, batch, n_new).
    """
    return ends + since.cumsum(1)[:, -n_new:]


def rotary_at(anatomy: Anatomy, layer: int, hidden: Tensor, positions: Tensor) -> Rotary:
    """(cos, sin) of `positions` (batch, n) as layer `layer` uses them."""
    given = _turned(anatomy.decoder.rotary_emb, hidden, positions, rotary_kind(anatomy, layer))
    if not isinstance(given, tuple) or len(given) != 2:
        raise ValueError(
            f"positions='compact': the rotary embedding of {type(anatomy.model).__name__} gives {form(given)}, "
            "not (cos, sin); use positions='original'"
        )
    return given


def rotaries(rotary: Any, hidden: Tensor, positions: Tensor, kind: str | None) -> list[Rotary]:
    """(cos, sin) of each of several positions (parts, batch, n)."""
    return [_turned(rotary, hidden, part, kind) for part in positions.unbind()]


def rotary_rows(rotary: Any, hidden: Tensor, n: int, kind: str | None) -> Tensor:
    """Cosines, then sines, of the first `n` positions: (2, n, dim). For `is_steady` ones."""
    return torch.cat(_turned(rotary, hidden, torch.arange(n, device=hidden.device)[None], kind))


def read_rotaries(rows: Tensor, positions: Tensor) -> list[Rotary]:
    """`rotaries`, off a table of `rotary_rows`: all in three kernels."""
    parts, n = rows[:, positions].flatten(0, 1).unbind(), len(positions)
    return list(zip(parts[:n], parts[n:], strict=True))


def _turned(rotary: Any, hidden: Tensor, positions: Tensor, kind: str | None) -> Any:
    return rotary(hidden, positions) if kind is None else rotary(hidden, positions, kind)


def is_steady(anatomy: Anatomy) -> bool:
    """Is the rotary embedding of a position the same whatever other positions it is asked for with?"""
    kinds = getattr(anatomy.decoder.rotary_emb, "rope_type", None)
    return set(kinds.values() if isinstance(kinds, dict) else (kinds,)) <= {"default", "linear", "llama3", "yarn"}


def rotary_kind(anatomy: Anatomy, layer: int) -> str | None:
    """The kind by which the rotary embedding is asked for a layer; None where it is the same for all kinds."""
    return anatomy.kind(layer) if "layer_type" in names_of(anatomy.decoder.rotary_emb) else None


def reads_positions(layer: Any) -> bool:
    """Does this layer's attention name the positions themselves, beside their rotary embedding?

    So it does where queries are scaled by position (Ministral 3, Mistral 4).
    """
    attention = attention_of(layer)
    return attention is not None and "position_ids" in names_of(attention)


def check_compact_by(config: PretrainedConfig, trust_remote_code: bool = False) -> None:
    """`check_compact` of the model that a *whole* config describes; no weights are made or read."""
    check_compact(Anatomy.of(made_by(config, trust_remote_code)))


def check_compact(anatomy: Anatomy) -> None:
    """Raise ValueError for a model whose positions cannot be renumbered in one row."""
    name = type(anatomy.model).__name__
    rope = getattr(anatomy.config, "rope_parameters", None) or {}
    if any("mrope_section" in part for part in (rope, *rope.values()) if isinstance(part, dict)):  # or by kind of layer
        raise ValueError(
            f"positions='compact' would flatten the three position axes of {name} (mrope) even where nothing is "
            "pruned: use positions='original'"
        )
    if anatomy.expert is not None:
        raise ValueError(
            f"positions='compact': the action expert of {type(anatomy.expert.model).__name__} counts its places from "
            "the full prompt; use positions='original'"
        )
    if any(counts_places(layer) for layer in anatomy.layers):
        raise ValueError(
            f"positions='compact': layers of {name} scale attention by a token's place in the full prompt; "
            "use positions='original'"
        )
    if anatomy.shares:
        raise ValueError(
            f"positions='compact': layers of {name} reuse keys of earlier ones, which stand where these had them; "
            "use positions='original'"
        )
    if hasattr(anatomy.decoder, "embed_positions"):
        raise ValueError(
            f"positions='compact': the decoder of {name} adds positions to its tokens before any layer, which no later "
            "cut can change; use positions='original'"
        )
    if not hasattr(anatomy.decoder, "rotary_emb"):
        raise ValueError(f"positions='compact': the decoder of {name} has no `rotary_emb`; use positions='original'")
