"""Forward calls on a cache that already holds a pruned prompt: every layer gets the mask of its own cache."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Pruned, Stage
from autoprune_lab.decoder.masks import causal_mask, keys_since
from autoprune_lab.decoder.positions import compact_positions_since, rotary_at


@dataclass(frozen=True, eq=False)
class Decode:
    """State of one forward call.

    `pruned` is None where the prompt was not pruned. `since` (batch, tokens since the prompt): False at padding,
    None: no padding.
    """

    anatomy: Anatomy
    pruned: Pruned | None
    since: Tensor | None
    _given: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, anatomy: Anatomy, pruned: Pruned | None, attention_mask: Tensor | None) -> "Decode":
        """`attention_mask` covers the prompt as it was before pruning and everything since."""
        since = None if pruned is None or attention_mask is None else attention_mask[:, pruned.width :].bool()
        if since is not None and bool(since.all()):
            since = None
        return cls(anatomy, pruned, since)

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets; an uncut layer gets what transformers made, which fits its cache."""
        if self.pruned is None or not self.pruned.is_cut(layer):
            return hidden, kwargs
        key = id(self.pruned.stages[layer]), self.anatomy.kind(layer)
        if key not in self._given:
            self._given[key] = self._give(layer, hidden, kwargs["past_key_values"].layers[layer])
        return hidden, kwargs | self._given[key]

    def restore(self, hidden: Tensor) -> Tensor:
        """Nothing was dropped in this call."""
        return hidden

    def _give(self, layer: int, hidden: Tensor, cache: Any) -> dict[str, Any]:
        """The arguments that every layer of the same stage and kind gets in place of its own."""
        stage, n_new = self.pruned.stages[layer], hidden.shape[1]
        n_keys, n_forgotten = cache.get_mask_sizes(n_new)
        since = self.since
        if since is None:
            since = stage.valid.new_ones(len(hidden), n_forgotten + n_keys - stage.index.shape[1])
        given = {"attention_mask": self._mask(layer, stage, since, n_keys, hidden), "position_ids": None}
        if self.pruned.positions == "compact":
            positions = compact_positions_since(stage, since, n_new)
            given["position_embeddings"] = rotary_at(self.anatomy, layer, hidden, positions)
        return given

    def _mask(self, layer: int, stage: Stage, since: Tensor, n_keys: int, hidden: Tensor) -> Tensor | None:
        window, n_new = self.anatomy.window(layer), hidden.shape[1]
        if n_new == 1 and window is None and self.since is None and not stage.ragged:
            return None
        keys = keys_since(stage, self.pruned.width, since).last(n_keys)
        return causal_mask(keys, n_new, window, self.anatomy.implementation, hidden.dtype)
