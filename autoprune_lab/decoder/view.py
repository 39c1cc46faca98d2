"""View: a decoder layer's own arguments, narrowed to the tokens that are left."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autoprune_lab.decoder.anatomy import SHARED, Anatomy
from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.masks import Planes, causal_mask, narrow_mask, prompt_keys
from autoprune_lab.decoder.per_token import narrow_tokens
from autoprune_lab.decoder.positions import (
    Rotary,
    compact_rotary,
    is_steady,
    original_rotary,
    reads_positions,
    rotary_at,
    rotary_table,
)
from autoprune_lab.decoder.sharing import narrow_shared, shared_by


class View:
    """What layers get after a cut; each distinct tensor that transformers built is narrowed once a stage."""

    def __init__(self, anatomy: Anatomy, positions: str, samples: Tensor) -> None:
        self.anatomy, self.positions, self.samples = anatomy, positions, samples
        self._tables: _Made = {}
        self._narrowed: _Made = {}
        self._stage: Stage | None = None
        self._stages: dict[int, Stage] = {}

    def narrow(self, layer: int, kwargs: dict[str, Any], hidden: Tensor, stage: Stage) -> dict[str, Any]:
        """`kwargs` of `layer`, as transformers built them for the full prompt -> as the stage needs them.

        Before anything is cut that is `kwargs` itself. After it masks, positions and rotary embeddings follow the
        stage by their meaning, anything else that holds a value per token by its shape; ValueError for what has the
        prompt's length and no known shape.
        """
        self._stages[layer] = stage
        if not stage.cut:
            return kwargs
        if stage is not self._stage:
            self._stage, self._narrowed = stage, {}
        given = {"attention_mask": None} | kwargs
        attends = self.anatomy.attention(layer) is not None
        make = self._made if attends else self._made_unattended

        def made(name: str) -> Any:
            key = name if attends else f"{name} of no attention"  # of one None other masks are made
            return _once(self._narrowed, key, given[name], lambda: make(layer, name, given[name], hidden, stage))

        shared = {SHARED: self._shared(layer, given.pop(SHARED), stage)} if SHARED in given else {}
        return {name: made(name) for name in given} | shared

    def _shared(self, layer: int, shared: Any, stage: Stage) -> Any:
        """Layers that make keys hand on all of them: these go to whoever has fewer tokens by then."""
        before = self._stages[self.anatomy.source(layer)]
        if before is stage:
            return shared
        key, pair = shared_by(self.anatomy, layer, shared)
        return _once(self._narrowed, SHARED, pair, lambda: narrow_shared(key, pair, shared, before, stage))

    def _made(self, layer: int, name: str, value: Any, hidden: Tensor, stage: Stage) -> Any:
        if name == "attention_mask":
            return self._mask(value, hidden, stage)
        if name == "position_embeddings" and value is not None:
            return self._rotary(layer, value, hidden, stage)
        if name == "position_ids" and value is not None:
            return self._position_ids(layer, value, stage)
        return narrow_tokens(name, value, stage, self.samples)

    def _made_unattended(self, layer: int, name: str, value: Any, hidden: Tensor, stage: Stage) -> Any:
        """For layers that read the tokens in their order: without padding they need no mask, else a 2-D one."""
        if name == "attention_mask":
            given = stage.valid if stage.ragged else None
            return given if value is None else narrow_mask(value, stage, self.samples)
        return narrow_tokens(name, value, stage, self.samples)

    def _mask(self, mask: Any, hidden: Tensor, stage: Stage) -> Any:
        if isinstance(mask, dict):
            return {kind: self._mask(one, hidden, stage) for kind, one in mask.items()}
        if mask is not None:
            return narrow_mask(mask, stage, self.samples, self._planes(mask))
        if not stage.ragged:
            return None
        keys = prompt_keys(stage)  # no window: transformers gave no mask, so the prompt fits into it
        return causal_mask(keys, hidden.shape[1], None, self.anatomy.implementation, hidden.dtype)

    def _planes(self, mask: Tensor) -> Planes | None:
        if mask.ndim != 4:
            return None
        planes: Planes = _once(self._tables, "planes", mask, lambda: Planes.of(mask, self.samples))
        return planes

    def _rotary(self, layer: int, rotary: Any, hidden: Tensor, stage: Stage) -> Any:
        if self.positions == "compact":
            return self._renumbered(layer, rotary, hidden, stage)
        if not is_pair(rotary):
            return narrow_tokens("position_embeddings", rotary, stage, self.samples)
        table = _once(self._tables, "", rotary, lambda: rotary_table(rotary))
        return original_rotary(table, stage, self.samples)

    def _renumbered(self, layer: int, rotary: Any, hidden: Tensor, stage: Stage) -> Rotary:
        """Rows of one table, where no row depends on the others: a cut costs fewer kernels than the embedding."""
        if not is_steady(self.anatomy):
            return rotary_at(self.anatomy, layer, hidden, stage.renumbered)

        def table() -> Tensor:
            places = torch.arange(stage.others.shape[1], device=hidden.device)[None]
            return rotary_table(rotary_at(self.anatomy, layer, hidden, places))

        return compact_rotary(_once(self._tables, "", rotary, table), stage)

    def _position_ids(self, layer: int, positions: Tensor, stage: Stage) -> Tensor | None:
        """Only layers get them that read them: the others save a kernel, and flash attention takes gaps for packing."""
        if not reads_positions(self.anatomy.layers[layer]):
            return None
        if self.positions == "compact":
            return stage.renumbered
        narrowed: Tensor = narrow_tokens("position_ids", positions, stage, self.samples)
        return narrowed


_Made = dict[tuple[str, int], tuple[Any, Any]]
"""By an argument's name and the id of what came under it: that itself, and what was made of it."""


def _once(made: _Made, name: str, source: Any, make: Callable[[], Any]) -> Any:
    key = name, id(source)
    if key not in made:
        made[key] = source, make()  # holding the source keeps its id its own
    return made[key][1]


def is_pair(rotary: Rotary | Any) -> bool:
    """Is it (cos, sin), each (1 or batch, positions, width), as most families give it?"""
    return isinstance(rotary, tuple) and len(rotary) == 2 and all(isinstance(r, Tensor) and r.ndim == 3 for r in rotary)
