"""Evidence from a live decoder: everything is computed on request, and its cost written down."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import SHARED
from autoprune_lab.decoder.layout import Picks, Prompt, Stage, as_bytes, take
from autoprune_lab.decoder.mixers import takes_keys
from autoprune_lab.decoder.sight import Sight
from autoprune_lab.decoder.tap import Counted, Tapped, calls_in, last_probabilities, probabilities, rows_at_once
from autoprune_lab.decoder.view import is_pair
from autoprune_lab.evidence.evidence import Evidence, NoAttentionError, Of, TowerLayer, extents


class LiveEvidence(Evidence):
    """The evidence of a `DecoderSource`: masks, too, are computed on request, and long prompts part by part."""

    source: "DecoderSource"

    def __init__(self, layer: int, source: "DecoderSource", **given: Any) -> None:
        known = {"n_vision": source.stage.n_vision, "n_rows": source.prompt.n_rows}
        vars(self).update({"layer": layer, "source": source} | known | given)

    @cached_property
    def vision_mask(self) -> Bool[Tensor, "batch vision"]:
        """See `Evidence`."""
        return self.source.vision.real

    @cached_property
    def text_mask(self) -> Bool[Tensor, "batch rows"]:
        """See `Evidence`."""
        return self.source.rows.real

    @cached_property
    def index(self) -> Int[Tensor, "batch vision"]:
        """See `Evidence`."""
        return self.source.index()

    @cached_property
    def host_grid(self) -> Int[np.ndarray, "batch vision 4"]:
        """See `Evidence`."""
        return self.grid.cpu().numpy() if self.source.stage.cut else self.source.whole_grid()

    @cached_property
    def host_index(self) -> Int[np.ndarray, "batch vision"]:
        """See `Evidence`."""
        if self.source.stage.cut:
            return self.index.cpu().numpy()
        each = np.arange(self.counts.max())
        return np.where(each < self.counts[:, None], each, -1)

    @cached_property
    def extents(self) -> tuple[int, ...]:
        """See `Evidence`."""
        return extents(self.source.sight.host_grid)

    @cached_property
    def last_row_mean(self) -> Tensor:
        """See `Evidence`."""
        return self.source.last_row_mean()

    def row_chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Evidence`."""
        if "attention" in vars(self) or self.source.rows_at_once >= self.source.rows.slots.shape[1]:
            yield self.attention, self.text_mask
        else:
            yield from self.source.attention_parts()


@dataclass(frozen=True, eq=False)
class Entered:
    """What a decoder layer got, and its part that attends: references, until its evidence has been looked at."""

    layer: Any
    attention: Any
    hidden: Tensor
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Attended:
    """One attention call: of which layer, the tokens that entered it, what the layer got, and what went in."""

    layer: int
    stage: Stage
    entered: Entered
    tapped: Tapped


def no_attention(layer: int, first: int) -> str:
    """Why evidence of `layer` has no attention: the `first` layer that has some comes later."""
    if layer < 0:
        return (
            "a cut before layer 0 has no attention to go by, nor has an estimator: choose another scorer (for an "
            "opening: opening_scorer) or an estimator of the text, or let nothing go there: probe_layer >= 0, "
            "no opening"
        )
    return (
        f"layer {layer} has no attention to go by, nor has any below it: the first layer with attention is {first}; "
        f"use probe_layer >= {first}, or a scorer and an estimator that read none"
    )


class DecoderSource:
    """The `Source` behind one stage's evidence.

    `attended` is the nearest attention call at or below the layer that is looked at, or says why there is none: tokens
    may have gone since. `hidden` (batch, slots, width) leaves the layer that is looked at, or enters the decoder;
    `sight` sees the vision tower, `norm` is the decoder's final one. `history` is of the prompts, as in `Evidence`.
    """

    def __init__(
        self,
        prompt: Prompt,
        stage: Stage,
        attended: Attended | str,
        hidden: Tensor,
        sight: Sight,
        norm: Callable[[Tensor], Tensor],
        history: Float[Tensor, "batch decisions positions"] | None = None,
    ) -> None:
        self.prompt, self.stage, self._attended = prompt, stage, attended
        self.hidden_states, self.sight, self.norm, self._history = hidden, sight, norm, history
        self._scored_rows, self._flops = np.zeros_like(prompt.n_rows), np.zeros_like(prompt.n_rows)

    @property
    def vision(self) -> Picks:
        """The visual tokens."""
        return self.stage.vision

    @cached_property
    def rows(self) -> Picks:
        """The text rows."""
        rows = self.prompt.rows.gather(1, self.stage.index)
        return Picks.without(as_bytes(~(rows & self.stage.valid)), self.prompt.n_rows)

    @property
    def attended(self) -> Attended:
        """The attention call that evidence of it comes from; NoAttentionError where there was none."""
        if isinstance(self._attended, str):
            raise NoAttentionError(self._attended)
        return self._attended

    @property
    def tapped(self) -> Tapped:
        """The same, without what entered it."""
        return self.attended.tapped

    @cached_property
    def _columns(self) -> Int[Tensor, "batch vision"]:
        """Where the visual tokens stood in the attention call, by their own numbers: recoveries may move them."""
        then, slots = self.attended.stage, self.vision.slots
        if then is self.stage:
            return slots
        n = self.prompt.rows.shape[1]
        ranks = then.rank.gather(1, then.vision.slots).masked_fill(~then.vision.real, n)
        where = torch.zeros_like(self.prompt.stage.index[:, :1]).expand(-1, n + 1)
        return where.scatter(1, ranks, then.vision.slots).gather(1, self.index().clamp(min=0))

    def _then(self, slots: Int[Tensor, "batch part"]) -> Int[Tensor, "batch part"]:
        """Where tokens that are in `slots` now, none of them visual, stood in the attention call."""
        then = self.attended.stage
        if then is self.stage:
            return slots
        places = torch.arange(then.index.shape[1], device=slots.device).expand_as(then.index)
        where = torch.zeros_like(self.prompt.stage.index).scatter(1, then.index, places)
        return where.gather(1, self.stage.index.gather(1, slots))

    @property
    def rows_at_once(self) -> int:
        """How many rows are computed at once."""
        return rows_at_once(self.tapped)

    def attention(self) -> Tensor:
        """(batch, heads, rows, vision)."""
        parts = [attention for attention, _ in self.attention_parts()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def attention_parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, (batch, heads, part, vision), and which rows are real, (batch, part), part by part."""
        slots, real, size = self.rows.slots, self.rows.real, self.rows_at_once
        self._scored_rows = self._scored_rows + self.prompt.n_rows
        for start in range(0, max(slots.shape[1], 1), size):
            part = slice(start, start + size)
            attention = self._visual_columns(probabilities(self.tapped, self._then(slots[:, part])))
            yield (
                attention.masked_fill_(~real[:, None, part, None], 0.0) if self.rows.padded else attention,
                real[:, part],
            )

    def last_row(self) -> Tensor:
        """(batch, heads, vision)."""
        self._scored_rows = self._scored_rows + 1
        return self._visual_columns(probabilities(self.tapped, self._then(self._last_slot())))[:, :, 0]

    def last_row_mean(self) -> Tensor:
        """(batch, vision)."""
        if not self._ends_alike:
            return self.last_row().mean(1)
        self._scored_rows = self._scored_rows + 1
        columns = last_probabilities(self.tapped).gather(1, self._columns)
        return torch.where(self.vision.real, columns, 0.0) if self.vision.padded else columns

    def visual_rows(self) -> Tensor:
        """(batch, vision, vision + rows); no more rows at once, of all heads, than elsewhere."""
        self._scored_rows = self._scored_rows + self.stage.n_vision
        columns = torch.cat([self._columns, self._then(self.rows.slots)], dim=1)[:, None]
        parts = [
            take(probabilities(self.tapped, rows).mean(1), columns, dim=2)
            for rows in torch.split(self._columns, self.rows_at_once, dim=1)
        ]
        real = torch.cat([self.vision.real, self.rows.real], dim=1)[:, None] & self.vision.real[..., None]
        return torch.cat(parts, dim=1).masked_fill_(~real, 0.0)

    def hidden(self) -> Tensor:
        """(batch, vision, hidden)."""
        return take(self.hidden_states, self.vision.slots[..., None], dim=1)

    def text(self) -> Tensor:
        """(batch, rows, hidden)."""
        states = take(self.hidden_states, self.rows.slots[..., None], dim=1)
        return states.masked_fill_(~self.rows.real[..., None], 0.0) if self.rows.padded else states

    def normed(self, of: Of) -> Tensor:
        """(batch, vision or rows, hidden)."""
        picks = self.vision if of == "vision" else self.rows
        states = self.norm(take(self.hidden_states, picks.slots[..., None], dim=1))
        return states.masked_fill(~picks.real[..., None], 0.0) if picks.padded else states

    def grid(self) -> Tensor:
        """(batch, vision, 4)."""
        return self._of_pictures(self.sight.grid(), -1)

    def whole_grid(self) -> Int[np.ndarray, "batch vision 4"]:
        """`grid` on the host, before any cut: what stands for a picture at a prompt's end or behind it is left out."""
        n, n_pictured = self.stage.n_vision, self.prompt.n_pictured
        real, each = np.arange(n.max()) < n[:, None], np.arange(n_pictured.max())
        grid = np.full((*real.shape, 4), -1)
        grid[real] = self.sight.host_grid[(each < n[:, None])[each < n_pictured[:, None]]]
        return grid

    def tower_attention(self, layer: TowerLayer) -> Tensor:
        """(batch, vision)."""
        return self._of_pictures(self.sight.attention(layer).float()[:, None])[..., 0]

    def wide_attention(self, layer: TowerLayer) -> Tensor:
        """(batch, vision)."""
        return self._of_pictures(self.sight.wide_attention(layer).float()[:, None])[..., 0]

    def tower_received(self, layer: TowerLayer) -> Tensor:
        """(batch, vision)."""
        return self._of_pictures(self.sight.received(layer).float()[:, None])[..., 0]

    def tower_features(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, width)."""
        return self._of_pictures(self.sight.features_of(layer))

    def tower_keys(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, width)."""
        return self._of_pictures(self.sight.keys(layer))

    def mean_keys(self, layer: TowerLayer) -> Tensor:
        """(batch, vision, dim)."""
        return self._of_pictures(self.sight.mean_keys(layer))

    def index(self) -> Tensor:
        """(batch, vision), -1 at padding."""
        index = self.stage.rank.gather(1, self.vision.slots)
        return index.masked_fill(~self.vision.real, -1) if self.vision.padded else index

    def history(self) -> Tensor:
        """(batch, decisions, vision)."""
        index = self.index()
        if self._history is None:
            return torch.zeros(*index.shape, 0, device=index.device).mT
        return take(self._history, index.clamp(min=0)[:, None], dim=2).masked_fill_((index < 0)[:, None], 0.0)

    def keys(self, of: Of, rotary: bool) -> Tensor:
        """(batch, kv_heads, vision or rows, dim)."""
        return self._at((self.tapped if rotary else self._unturned).key, of)

    def queries(self, of: Of, rotary: bool) -> Tensor:
        """(batch, heads, vision or rows, dim)."""
        return self._at((self.tapped if rotary else self._unturned).query, of)

    def _at(self, values: Tensor, of: Of) -> Tensor:
        picks = self.vision if of == "vision" else self.rows
        slots = self._columns if of == "vision" else self._then(self.rows.slots)
        taken = take(values, slots[:, None, :, None], dim=2)
        return taken.masked_fill(~picks.real[:, None, :, None], 0.0) if picks.padded else taken

    @cached_property
    def _unturned(self) -> Tapped:
        """The layer's queries and keys again, by a rotary embedding that turns nothing."""
        entered, stage = self.attended.entered, self.attended.stage
        layer, hidden, kwargs = entered.layer, entered.hidden, entered.kwargs
        rotary = kwargs.get("position_embeddings")
        if rotary is None or not is_pair(rotary):
            raise ValueError(
                f"{type(layer).__name__} does not take its rotary embedding as cosines and sines: queries and keys "
                "before it are not known; take rotary=True"
            )
        still = {"position_embeddings": (torch.ones_like(rotary[0]), torch.zeros_like(rotary[1]))}
        if takes_keys(layer):
            raise ValueError(
                f"{type(layer).__name__} takes an earlier layer's keys, rotated already: queries and keys before the "
                "rotary embedding are not known; take rotary=True"
            )
        if SHARED in kwargs:  # what later layers are handed stays what it is
            kwargs = kwargs | {SHARED: copy.copy(kwargs[SHARED])}
        alone = {name: None for name in kwargs if "past_key_value" in name or "cache" in name}  # held once already
        with Counted(layer) as counted:
            calls = calls_in(entered.attention, lambda: layer.forward(hidden, **kwargs | alone | still))
        self._flops = self._flops + counted.flops // stage.index.numel() * stage.n_valid
        return calls[0]

    def take_flops(self) -> Int[np.ndarray, "batch"]:
        """FLOPs per sample since the last call of this function, beside attention rows."""
        flops, self._flops = self._flops, np.zeros_like(self._flops)
        return flops

    def take_scored_rows(self) -> Int[np.ndarray, "batch"]:
        """Attention rows computed per sample since the last call of this function."""
        rows, self._scored_rows = self._scored_rows, np.zeros_like(self._scored_rows)
        return rows

    def _last_slot(self) -> Int[Tensor, "batch 1"]:
        last = self.prompt.last.gather(1, self.stage.index) & self.stage.valid
        return last.byte().argmax(dim=1, keepdim=True)

    def _of_pictures(self, values: Tensor, padding: int = 0) -> Tensor:
        """Values of all tokens that stand for pictures, (tokens, c), -> of those that are left, (batch, vision, c)."""
        full = Picks.without(as_bytes(~self.prompt.pictured), self.prompt.n_pictured).real
        shape = *full.shape, values.shape[1]
        if values.device != full.device:
            values = values.to(full.device)
        at_home = values.new_zeros(shape).masked_scatter(full[..., None], values)
        taken = take(at_home, self.index().clamp(min=0)[..., None], dim=1)
        return taken.masked_fill(~self.vision.real[..., None], padding)

    @property
    def _ends_alike(self) -> bool:
        """Is the last slot the last token of every prompt?"""
        return self.attended.stage.aligned and not self.prompt.goes_on

    def _visual_columns(self, attention: Tensor) -> Tensor:
        columns = take(attention, self._columns[:, None, None], dim=3)
        return columns.masked_fill_(~self.vision.real[:, None, None], 0.0) if self.vision.padded else columns
