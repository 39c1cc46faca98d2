"""Expert: a second decoder, which reads the cache that the prompt's own one has filled, and makes actions (pi0).

The prompt goes once through a vision-language model inside. The expert's tokens are no part of it: pass after pass,
while noise becomes actions, they attend to the keys and values that the layer of the same number holds, and to each
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from autoprune_lab.decoder.layout import Pruned, Stage
from autoprune_lab.decoder.masks import narrow_keys

EMBED = "embed_prefix"
"""The method that makes embeddings of pictures and words; the vision-language model inside gets nothing else."""
_READER, _EXPERT = "vlm", "dit"


@dataclass(frozen=True, eq=False)
class Expert:
    """`model` is the whole, `owner` its part that embeds prompts; `reader` reads them, `decoder` makes actions."""

    model: PreTrainedModel
    owner: nn.Module
    reader: PreTrainedModel
    decoder: nn.Module

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Expert | None":
        """Find the parts by the names transformers gives them; None: the model answers in words."""
        owner: Any = getattr(model, "base_model", model)
        if not all(hasattr(owner, name) for name in (EMBED, _READER, _EXPERT)):
            return None
        return cls(model, owner, getattr(owner, _READER), getattr(owner, _EXPERT))

    @property
    def layers(self) -> Any:
        """The expert's own."""
        return self.decoder.layers

    def check(self, n_prompt: int | Sequence[int] | None, has_history: bool) -> None:
        """Raise ValueError for what only an answer in words could have."""
        name = type(self.model).__name__
        if n_prompt is not None:
            raise ValueError(f"n_prompt tells a prompt from its answer, and {name} answers in actions: leave it out")
        if has_history:
            raise ValueError(
                f"a history tells what the words of earlier answers looked at, and {name} answers in actions: "
                "leave it out"
            )


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of the expert on what `pruned` says of the cache; None: the prompt was not pruned.

    Its masks stand for the whole prompt, as it was before pruning, and the expert's own tokens.
    """

    pruned: Pruned | None
    entered: list[int] = field(default_factory=list)
    _masks: dict[Stage, Tensor] = field(default_factory=dict)

    def enter(self, layer: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What layer `layer` gets instead of `kwargs`: a mask of the keys that the prompt's layer kept."""
        self.entered.append(layer)
        if self.pruned is None or not self.pruned.is_cut(layer):
            return kwargs
        stage = self.pruned.stages[layer]
        if stage not in self._masks:
            self._masks[stage] = narrow_keys(kwargs["attention_mask"], stage)
        return kwargs | {"attention_mask": self._masks[stage]}
