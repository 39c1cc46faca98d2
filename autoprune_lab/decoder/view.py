"""View: a decoder layer's own arguments, narrowed to the tokens that are left."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.masks import causal_mask, narrow_mask, prompt_keys
from autoprune_lab.decoder.positions import Rotary, compact_positions, original_rotary, rotary_at


class View:
    """What the layers of one stage get; each distinct tensor that transformers built is narrowed once."""

    def __init__(self, anatomy: Anatomy, stage: Stage, positions: str) -> None:
        self.anatomy, self.stage, self.positions = anatomy, stage, positions
        self._narrowed: dict[int, tuple[Any, Any]] = {}

    def narrow(self, layer: int, kwargs: dict[str, Any], hidden: Tensor) -> dict[str, Any]:
        """`kwargs` of `layer`, as transformers built them for the full prompt -> as the stage needs them.

        `position_ids` go: layers need the rotary embeddings only, and flash attention takes gaps for packing.
        """
        mask, rotary = kwargs.get("attention_mask"), kwargs.get("position_embeddings")
        return kwargs | {
            "attention_mask": self._once(mask, lambda: self._mask(mask, hidden)),
            "position_embeddings": self._once(rotary, lambda: self._rotary(layer, rotary, hidden)),
            "position_ids": None,
        }

    def _once(self, source: Any, narrow: Callable[[], Any]) -> Any:
        if id(source) not in self._narrowed:
            self._narrowed[id(source)] = (source, narrow())  # holding the source keeps its id its own
        return self._narrowed[id(source)][1]

    def _mask(self, mask: Tensor | None, hidden: Tensor) -> Tensor | None:
        if mask is not None:
            return narrow_mask(mask, self.stage)
        if not self.stage.ragged:
            return None
        keys = prompt_keys(self.stage)  # no window: transformers gave no mask, so the prompt fits into it
        return causal_mask(keys, hidden.shape[1], None, self.anatomy.implementation, hidden.dtype)

    def _rotary(self, layer: int, rotary: Rotary, hidden: Tensor) -> Rotary:
        if self.positions == "original":
            return original_rotary(rotary, self.stage)
        return rotary_at(self.anatomy, layer, hidden, compact_positions(self.stage))
