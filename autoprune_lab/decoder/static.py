"""Static caches: buffers of one size a layer, so that decode steps have one shape and torch.compile one graph.

A layer's buffer has room for what entered it, and for as many new tokens as the whole prompt would have left. What a
step needs is made once, at a prefill's end; the step reads off the mask that transformers makes of the whole prompt,
whatever its pattern, what the slots of each buffer may show. Nothing in it waits for the device or depends on values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import StaticLayer

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.cache import PRUNED
from autoprune_lab.decoder.layout import Pruned, Stage
from autoprune_lab.decoder.masks import hiding
from autoprune_lab.decoder.positions import (
    Rotary,
    is_steady,
    read_rotaries,
    reads_positions,
    rotaries,
    rotary_kind,
    rotary_rows,
)
from autoprune_lab.decoder.tap import Tapped

_BUFFERS = "_autoprune_lab_buffers"
"""A pruned static cache carries what its steps need under this name."""


@dataclass(frozen=True, eq=False)
class Buffers:
    """What the slots of a pruned static cache hold; the cut layers of one stage share a part, as long as their buffer.

    `parts`: the part of each layer, -1 for one that is not cut. `lengths` of the parts; side by side (batch, 1, 1,
    slots): `places`, where the token of a slot stands in the whole prompt and behind it; `unseen`, True at slots that
    nobody sees, None where all may be. `ends` (parts, batch, 1): where the prompt ends, renumbered. `width`: its slots
    before any cut. `renumbered`: positions are compact; `reads`: layers that read them beside their rotary embedding.
    That one is asked by `rotary_kind`, or, where it is steady, read off `rows`, see `rotary_rows`.
    """

    parts: tuple[int, ...]
    lengths: tuple[int, ...]
    places: Tensor
    unseen: Tensor | None
    ends: Tensor
    width: int
    renumbered: bool
    reads: tuple[bool, ...]
    rotary_kind: str | None
    rows: Tensor | None

    @classmethod
    def of(cls, anatomy: Anatomy, pruned: Pruned, lengths: Sequence[int], n_keys: int, hidden: Tensor) -> "Buffers":
        """Of buffers of these lengths, where a whole prompt's would hold `n_keys`; `hidden`: some hidden states."""
        distinct: dict[tuple[Stage, int], int] = {}
        parts = tuple(
            distinct.setdefault((stage, length), len(distinct)) if stage.cut else -1
            for stage, length in zip(pruned.stages, lengths, strict=True)
        )
        slots = [_slots(stage, pruned.width, length, n_keys) for stage, length in distinct]
        places, unseen = (torch.cat([one[i] for one in slots], dim=1)[:, None, None] if slots else None for i in (0, 1))
        whole = all(not stage.ragged and stage.index.shape[1] + n_keys == pruned.width + n for stage, n in distinct)
        first, renumbered = pruned.prompt.index, pruned.positions == "compact"
        kind = rotary_kind(anatomy, 0) if renumbered else None
        steady = renumbered and is_steady(anatomy)
        return cls(
            parts=parts,
            lengths=tuple(length for _, length in distinct),
            places=first[:, None, None, :0] if places is None else places,
            unseen=None if whole else unseen,
            ends=torch.stack([stage.n_real for stage, _ in distinct] or [first[:, :1]]) - 1,
            width=pruned.width,
            renumbered=renumbered,
            reads=tuple(map(reads_positions, anatomy.layers)),
            rotary_kind=kind,
            rows=rotary_rows(anatomy.decoder.rotary_emb, hidden, n_keys, kind) if steady else None,
        )

    def masks(self, mask: Tensor) -> Sequence[Tensor]:
        """What the new tokens see of each part, of what they see of the whole prompt: (batch or 1, 1, new, n_keys)."""
        columns = self.places.expand(-1, mask.shape[1], mask.shape[2], -1)
        seen = mask.expand(len(columns), -1, -1, -1).gather(3, columns)
        if self.unseen is not None:
            seen = seen.masked_fill(self.unseen, hiding(mask))
        return torch.split(seen, list(self.lengths), dim=3)

    def positions(self, mask: Tensor) -> Tensor:
        """Renumbered positions of the new tokens, (parts, batch, new): they go on where the shorter prompt ends."""
        since = mask[:, 0, :, self.width :]
        since = since if since.dtype == torch.bool else since == 0
        return self.ends + since.sum(2)


class Step:
    """State of one forward call on a static cache that already holds a pruned prompt; torch.compile traces it."""

    def __init__(self, anatomy: Anatomy, buffers: Buffers) -> None:
        self.anatomy, self.buffers = anatomy, buffers
        self._masks: Sequence[Tensor] | None = None
        self._positions: Sequence[Tensor] = ()
        self._rotaries: Sequence[Rotary] = ()

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets; an uncut layer gets what transformers made, which fits its buffer."""
        part = self.buffers.parts[layer]
        if part < 0:
            return hidden, kwargs
        whole: Tensor = kwargs["attention_mask"]  # transformers makes one for every static cache
        if self._masks is None:
            self._masks = self.buffers.masks(whole)
        given: dict[str, Any] = {"attention_mask": self._masks[part]}
        if self.buffers.renumbered:
            if not self._rotaries:
                self._turn(hidden, whole)
            given["position_embeddings"] = self._rotaries[part]
            if self.buffers.reads[layer]:
                given["position_ids"] = self._positions[part]
        return hidden, {**kwargs, **given}

    def restore(self, hidden: Tensor) -> Tensor:
        """Nothing was dropped in this call."""
        return hidden

    def _turn(self, hidden: Tensor, mask: Tensor) -> None:
        buffers, positions = self.buffers, self.buffers.positions(mask)
        if any(buffers.reads):
            self._positions = positions.unbind()
        if buffers.rows is not None:
            self._rotaries = read_rotaries(buffers.rows, positions)
        else:
            self._rotaries = rotaries(self.anatomy.decoder.rotary_emb, hidden, positions, buffers.rotary_kind)


def check_static(anatomy: Anatomy, cache: Any) -> None:
    """Raise ValueError for a static cache whose slots could not be told."""
    if others := sorted({type(layer).__name__ for layer in cache.layers if type(layer) is not StaticLayer}):
        problem = f"a static cache of {', '.join(others)}"
    elif anatomy.shares or not all(map(anatomy.sees_all, range(len(anatomy.layers)))):
        problem = "a static cache of a decoder whose layers look through windows or share keys"
    elif anatomy.implementation not in ("sdpa", "eager"):
        problem = f"a static cache with {anatomy.implementation}"
    else:
        return
    raise ValueError(f"{problem} is not supported while a pruner is attached: use a DynamicCache")


def room_in(cache: Cache | None, width: int) -> int | None:
    """How many tokens go into a static cache behind a prompt of `width`; None for another cache, or none.

    ValueError for less than none.
    """
    layers: Any = () if cache is None else cache.layers
    if not layers or not all(type(layer) is StaticLayer for layer in layers):
        return None
    room: int = layers[0].max_cache_len - width
    if room < 0:
        raise ValueError(
            f"the static cache holds {layers[0].max_cache_len} tokens, the prompt has {width} before it is pruned: "
            f"make it with max_cache_len >= {width}"
        )
    return room


def size(cache: Any, layer: int, n_tokens: int, room: int) -> None:
    """Size the buffer of a layer that `n_tokens` of the prompt enter; one that is there already must be long enough."""
    held = cache.layers[layer]
    if not held.is_initialized:
        held.max_cache_len = n_tokens + room
    elif held.max_cache_len < n_tokens + room:
        raise ValueError(
            f"the static cache's layer {layer} holds {held.max_cache_len} tokens, now {n_tokens + room} are needed: "
            "make a new cache, or fill this one by `early_initialization` before its first prompt"
        )


def widened(cache: Any, layer: int, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The mask as long as the layer's buffer; nothing is in the last slots."""
    mask, n_slots = kwargs.get("attention_mask"), cache.layers[layer].max_cache_len
    if mask is None or mask.shape[3] == n_slots:  # without one a token sees none behind itself
        return kwargs
    return kwargs | {"attention_mask": pad(mask, (0, n_slots - mask.shape[3]), value=hiding(mask))}


def filled(tapped: Tapped, n_tokens: int) -> Tapped:
    """The attention call without the slots of the buffer that nothing has entered yet."""
    mask = tapped.mask
    return replace(tapped, key=tapped.key[:, :, :n_tokens], mask=None if mask is None else mask[..., :n_tokens])


def lay(cache: Any, anatomy: Anatomy, pruned: Pruned, room: int, hidden: Tensor) -> None:
    """Write on a static cache how its prompt was pruned; lengths and mask sizes go on to be the whole prompt's."""
    lengths = [layer.max_cache_len for layer in cache.layers]
    n_keys = pruned.width + room
    setattr(cache, PRUNED, pruned)
    setattr(cache, _BUFFERS, Buffers.of(anatomy, pruned, lengths, n_keys, hidden))
    own: dict[str, Any] = {"reset": partial(_reset, cache)}
    if pruned.is_cut(0):
        gone = pruned.width - pruned.stages[0].index.shape[1]
        own |= {"get_seq_length": partial(_whole_length, cache, gone), "get_mask_sizes": partial(_whole_sizes, n_keys)}
    vars(cache).update(own)


def buffers_of(cache: Any) -> Buffers | None:
    """What the steps on a pruned static cache need; None for another cache."""
    return getattr(cache, _BUFFERS, None)


def _slots(stage: Stage, width: int, length: int, n_keys: int) -> tuple[Tensor, Tensor]:
    """Where the tokens of a buffer's slots stand, and which slots nobody sees: (batch, length) each."""
    index = stage.index
    later = torch.arange(width, width + length - index.shape[1], device=index.device).expand(len(index), -1)
    beyond = later >= n_keys  # of a buffer longer than it need be
    return torch.cat([index, later.clamp(max=n_keys - 1)], dim=1), torch.cat([~stage.valid, beyond], dim=1)


def _whole_length(cache: Any, gone: int, layer_idx: int = 0) -> Any:
    """Tokens that were fed to the model; of a layer that is asked by its number, those that it holds."""
    length = type(cache).get_seq_length(cache, layer_idx)
    return length if layer_idx else length + gone


def _whole_sizes(n_keys: int, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
    return n_keys, 0


def _reset(cache: Any) -> None:
    """The cache is empty again, and knows of no prompt."""
    for name in (PRUNED, _BUFFERS, "reset", "get_seq_length", "get_mask_sizes"):
        vars(cache).pop(name, None)
    cache.reset()
