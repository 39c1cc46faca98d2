"""Forward calls on a cache that already holds a pruned prompt: every layer gets the mask of its own cache."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import Cache

from autoprune_lab.decoder.anatomy import SHARED, Anatomy
from autoprune_lab.decoder.cache import cache_of
from autoprune_lab.decoder.layout import Pruned, Stage
from autoprune_lab.decoder.masks import Keys, causal_mask, keys_since, step_masks
from autoprune_lab.decoder.positions import (
    Rotary,
    compact_positions_since,
    is_steady,
    read_rotaries,
    reads_positions,
    rotaries,
    rotary_kind,
    rotary_rows,
)
from autoprune_lab.decoder.sharing import shared_by


@dataclass(frozen=True, eq=False)
class Decode:
    """State of one forward call; nothing in it waits for the device.

    `pruned` is None where the prompt was not pruned. `attention_mask` (batch, tokens) covers the prompt as it was
    before pruning and everything since, 0 at padding; None: no padding. `cache` holds what came before this call.
    """

    anatomy: Anatomy
    pruned: Pruned | None
    attention_mask: Tensor | None
    cache: Cache | None
    _given: dict[tuple[Stage, str, bool], dict[str, Any]] = field(default_factory=dict)
    _since: dict[bool, Tensor] = field(default_factory=dict)
    _masks: dict[Stage, Tensor] = field(default_factory=dict)
    _renumbered: dict[bool, Tensor] = field(default_factory=dict)
    _turned: dict[tuple[bool, str | None], dict[Stage, Rotary]] = field(default_factory=dict)

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets; an uncut layer gets what transformers made, which fits its cache.

        So does one without attention: its mask is of the new tokens only, its state has no length.
        """
        if self.pruned is None or not self.pruned.is_cut(layer) or self.anatomy.attention(layer) is None:
            return hidden, kwargs
        key = self.pruned.stages[layer], self.anatomy.kind(layer), kwargs.get("position_embeddings") is None
        if key not in self._given:
            self._given[key] = self._give(layer, self.pruned, hidden, kwargs)
        return hidden, kwargs | self._given[key]

    def restore(self, hidden: Tensor) -> Tensor:
        """Nothing was dropped in this call."""
        return hidden

    def _give(self, layer: int, pruned: Pruned, hidden: Tensor, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments that every layer of the same stage and kind gets in place of its own."""
        stage, n_new, bounded = pruned.stages[layer], hidden.shape[1], not self.anatomy.sees_all(layer)
        n_keys, n_forgotten = self._sizes(layer, n_new, kwargs)
        padded = self._may_be_padded(layer, pruned, kwargs.get("attention_mask"))
        reads = reads_positions(self.anatomy.layers[layer])
        given: dict[str, Any] = {"attention_mask": None} | ({} if reads else {"position_ids": None})
        if n_new == 1 and not bounded and not padded and not stage.ragged and pruned.positions == "original":
            return given
        if padded not in self._since:
            n_since = n_forgotten + n_keys - stage.index.shape[1]
            self._since[padded] = _tokens_since(pruned, self.attention_mask if padded else None, n_since)
        since = self._since[padded]
        if n_new > 1 or bounded:
            n_first = self._reference(layer, n_keys, kwargs)
            keys = keys_since(stage, pruned.width, since).held(n_keys, n_first)
            chunk = self._chunk(layer, keys, pruned)
            form = self.anatomy.implementation, hidden.dtype
            given["attention_mask"] = causal_mask(keys, n_new, self.anatomy.window(layer), *form, chunk, n_first)
        elif padded or stage.ragged:
            given["attention_mask"] = self._mask_of_one(stage, pruned, since, padded, hidden)
        if pruned.positions == "compact":
            if reads:
                given["position_ids"] = self._positions(pruned, padded, n_new)[pruned.cuts.index(stage)]
            if kwargs.get("position_embeddings") is not None:  # layers without a rotary get none
                given["position_embeddings"] = self._rotaries(layer, pruned, padded, hidden)[stage]
        return given

    def _sizes(self, layer: int, n_new: int, kwargs: dict[str, Any]) -> tuple[int, int]:
        """How many keys the layer attends to, and how many before them were let go."""
        held: Any = cache_of(kwargs).layers
        if (source := self.anatomy.source(layer)) == layer:
            n_keys, n_forgotten = held[layer].get_mask_sizes(n_new)
            return n_keys, n_forgotten
        _, (keys, _) = shared_by(self.anatomy, layer, kwargs[SHARED])  # the new tokens' are among them already
        return keys.shape[2], held[source].get_seq_length() - keys.shape[2]

    def _reference(self, layer: int, n_keys: int, kwargs: dict[str, Any]) -> int:
        """How many of the first keys are seen from any distance: the prompt's, or all in a cache that lets none go."""
        held: Any = cache_of(kwargs).layers[layer] if self.anatomy.refers(layer) else None
        return 0 if held is None else getattr(held, "prefill_length", n_keys)

    def _mask_of_one(self, stage: Stage, pruned: Pruned, since: Tensor, padded: bool, hidden: Tensor) -> Tensor:
        """What one new token may see; made for all stages together."""
        if stage not in self._masks:
            stages = [one for one in pruned.cuts if padded or one.ragged]
            masks = step_masks(stages, since, self.anatomy.implementation, hidden.dtype)
            self._masks.update(zip(stages, masks, strict=True))
        return self._masks[stage]

    def _positions(self, pruned: Pruned, padded: bool, n_new: int) -> Tensor:
        """Renumbered positions of the new tokens, (cuts, batch, n_new)."""
        if padded not in self._renumbered:
            self._renumbered[padded] = compact_positions_since(pruned.ends, self._since[padded], n_new)
        return self._renumbered[padded]

    def _rotaries(self, layer: int, pruned: Pruned, padded: bool, hidden: Tensor) -> dict[Stage, Rotary]:
        """The same as (cos, sin)."""
        kind = rotary_kind(self.anatomy, layer)
        if (padded, kind) not in self._turned:
            positions = self._positions(pruned, padded, hidden.shape[1])
            if is_steady(self.anatomy):
                made = read_rotaries(self._rows(kind, pruned, self._since[padded].shape[1], hidden), positions)
            else:
                made = rotaries(self.anatomy.decoder.rotary_emb, hidden, positions, kind)
            self._turned[padded, kind] = dict(zip(pruned.cuts, made, strict=True))
        return self._turned[padded, kind]

    def _rows(self, kind: str | None, pruned: Pruned, n_since: int, hidden: Tensor) -> Tensor:
        """`rotary_rows` for so many tokens since the prompt at least: seldom made, for twice as many as needed."""
        n, tables = max(int(stage.n_valid.max()) for stage in pruned.cuts) + n_since, pruned.tables
        if kind not in tables or tables[kind].shape[1] < n:
            tables[kind] = rotary_rows(self.anatomy.decoder.rotary_emb, hidden, 2 * n, kind)
        return tables[kind]

    def _chunk(self, layer: int, keys: Keys, pruned: Pruned) -> Tensor | None:
        """The stretch of the prompt that each key stands in, counted from the prompt's first real token."""
        size = self.anatomy.chunk(layer)
        first = pruned.prompt.valid.byte().argmax(dim=1, keepdim=True)
        return None if size is None else (keys.index - first) // size

    def places(self, layer: int, n_new: int) -> Tensor:
        """Where the new tokens stand behind everything that was fed to the model, (1, n_new)."""
        held = 0 if self.cache is None else type(self.cache).get_seq_length(self.cache, layer)
        gone = 0 if self.pruned is None else self.pruned.width - self.pruned.stages[layer].index.shape[1]
        return torch.arange(held + gone, held + gone + n_new)[None]

    def _may_be_padded(self, layer: int, pruned: Pruned, own: Tensor | None) -> bool:
        """May a token since the prompt be padding, as far as is known without waiting for the device?

        Where transformers made no mask, it looked for padding itself, in as many columns as the first layer of this
        kind holds keys: in all of them, if that layer is not cut.
        """
        first = next(i for i in range(layer + 1) if self.anatomy.kind(i) == self.anatomy.kind(layer))
        return self.attention_mask is not None and (own is not None or pruned.is_cut(first))


def _tokens_since(pruned: Pruned, attention_mask: Tensor | None, n_since: int) -> Bool[Tensor, "batch since"]:
    """False at padding."""
    if attention_mask is not None:
        return attention_mask[:, pruned.width :].bool()
    index = pruned.prompt.index
    return index.new_ones(len(index), n_since, dtype=torch.bool)
