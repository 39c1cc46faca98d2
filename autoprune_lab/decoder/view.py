"""View: a decoder layer's own arguments, narrowed to the tokens that are left."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.masks import causal_mask, narrow_mask, prompt_keys
from autoprune_lab.decoder.positions import (
    Rotary,
    compact_positions,
    original_rotary,
    rotary_at,
    rotary_table,
)


class View:
    """What layers get after a cut; each distinct tensor that transformers built is narrowed once a stage."""

    def __init__(self, anatomy: Anatomy, positions: str, samples: Tensor) -> None:
        self.anatomy, self.positions, self.samples = anatomy, positions, samples
        self._tables: dict[int, tuple[Any, Any]] = {}
        self._narrowed: dict[int, tuple[Any, Any]] = {}
        self._stage: Stage | None = None

    def narrow(self, layer: int, kwargs: dict[str, Any], hidden: Tensor, stage: Stage) -> dict[str, Any]:
        """`kwargs` of `layer`, as transformers built them for the full prompt -> as the stage needs them.

        Before anything is cut that is `kwargs` itself. After it `position_ids` go: layers need the rotary embeddings
        only, and flash attention takes gaps for packing.
        """
        if not stage.cut:
            return kwargs
        if stage is not self._stage:
            self._stage, self._narrowed = stage, {}
        mask: Tensor | None = kwargs.get("attention_mask")
        rotary: Any = kwargs.get("position_embeddings")
        return kwargs | {
            "attention_mask": _once(self._narrowed, mask, lambda: self._mask(mask, hidden, stage)),
            "position_embeddings": _once(self._narrowed, rotary, lambda: self._rotary(layer, rotary, hidden, stage)),
            "position_ids": None,
        }

    def _mask(self, mask: Tensor | None, hidden: Tensor, stage: Stage) -> Tensor | None:
        if mask is not None:
            return narrow_mask(mask, stage, self.samples)
        if not stage.ragged:
            return None
        keys = prompt_keys(stage)  # no window: transformers gave no mask, so the prompt fits into it
        return causal_mask(keys, hidden.shape[1], None, self.anatomy.implementation, hidden.dtype)

    def _rotary(self, layer: int, rotary: Rotary, hidden: Tensor, stage: Stage) -> Rotary:
        if self.positions == "original":
            table = _once(self._tables, rotary, lambda: rotary_table(rotary))
            return original_rotary(table, stage, self.samples)
        return rotary_at(self.anatomy, layer, hidden, compact_positions(stage))


def _once(made: dict[int, tuple[Any, Any]], source: Any, make: Callable[[], Any]) -> Any:
    if id(source) not in made:
        made[id(source)] = (source, make())  # holding the source keeps its id its own
    return made[id(source)][1]
