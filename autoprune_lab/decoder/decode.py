"""Forward calls on a cache that already holds a pruned prompt: every layer gets the mask of its own cache."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.masks import decode_mask


@dataclass(frozen=True, eq=False)
class Decode:
    """State of one forward call.

    `stages` per layer, None: unpruned. `since` (batch, tokens since the prompt): False at padding, None: no
    padding.
    """

    stages: list[Stage] | None
    since: Tensor | None
    implementation: str
    _masks: dict[tuple[int, int], Tensor | None] = field(default_factory=dict)

    @classmethod
    def of(cls, stages: list[Stage] | None, attention_mask: Tensor | None, implementation: str) -> "Decode":
        """`attention_mask` covers the prompt as it was before pruning and everything since."""
        since = (
            None if stages is None or attention_mask is None else attention_mask[:, stages[0].index.shape[1] :].bool()
        )
        if since is not None and bool(since.all()):
            since = None
        return cls(stages, since, implementation)

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """What layer `layer` gets; an uncut layer gets what transformers made, which fits its cache."""
        if self.stages is None or self.stages[layer] is self.stages[0]:
            return hidden, kwargs
        stage = self.stages[layer]
        n_past = int(kwargs["past_key_values"].get_seq_length(layer))
        key = (id(stage), n_past)
        if key not in self._masks:
            self._masks[key] = decode_mask(
                stage, n_past, hidden.shape[1], self.since, self.implementation, hidden.dtype
            )
        return hidden, kwargs | {"attention_mask": self._masks[key], "position_ids": None}

    def restore(self, hidden: Tensor) -> Tensor:
        """Nothing was dropped in this call."""
        return hidden
