"""Vision features, computed once: what the decoder reads in place of pixels."""

import inspect
from typing import Any

import torch

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.places import UnknownPlacesError, places, told
from autoprune_lab.decoder.tower import Call, Tower, watch
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.errors import CheckpointError, one_line

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}
KEPT = ("pooler_output", "deepstack_features")
APART = "do preprocessor_config.json, processor_config.json and config.json belong together?"


class VisionEncoder:
    """Replaces pixels by the features the decoder reads, and keeps what scorers need of one tower layer.

    Where the tower has [CLS] that is the layer's input; without, it would be larger than the features, and the
    attention that each token receives is kept instead. `told` is kept too: how the pictures lie.
    """

    def __init__(self, vlm: VLM) -> None:
        self.model, self.name = vlm.model, vlm.name
        self.anatomy = Anatomy.of(vlm.model)
        self.tower = Tower.of(self.anatomy)
        generate = getattr(vlm.model, "generate", None)
        own = generate is not None and "pixel_values" in inspect.signature(generate).parameters  # takes nothing else
        methods = {kind: None if own else getattr(vlm.model, f"get_{kind}_features", None) for kind in PIXELS}
        self.methods = {kind: method for kind, method in methods.items() if method is not None}

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The same inputs with `mm_encoder_outputs` for pixels; unchanged where there is no picture and no video."""
        shown = [kind for kind, pixels in PIXELS.items() if pixels in inputs]
        if not shown or not self.methods.keys() >= {*shown}:
            return inputs
        made = {kind: self._features(kind, inputs) for kind in shown}
        return {name: value for name, value in inputs.items() if name not in PIXELS.values()} | {
            "mm_encoder_outputs": made
        }

    def _features(self, kind: str, inputs: dict[str, Any]) -> Any:
        takes = inspect.signature(self.methods[kind]).parameters
        taken = {name: value for name, value in inputs.items() if name in takes}
        calls: list[Call] = []
        hook = None if self.tower is None else watch(self.tower, self.tower.index, calls.append)
        try:
            seen = self._see(kind, taken)
        finally:
            if hook is not None:
                hook.remove()
        features = type(seen)(**{name: seen[name] for name in KEPT if name in seen})
        features["told"] = told(taken)
        if self.tower is not None and self.tower.has_cls and seen.hidden_states is not None:
            wanted = self.tower.index
            features["hidden_states"] = tuple(
                state if i == wanted else None for i, state in enumerate(seen.hidden_states)
            )
        elif self.tower is not None and calls:
            self._keep_attention(kind, self.tower, calls[0], features)
        return features

    def _keep_attention(self, kind: str, tower: Tower, call: Call, features: Any) -> None:
        """What `Sight` gives for it, and its FLOPs; nothing where the family's places are not known."""
        try:
            placed = places(self.anatomy, kind, features["told"], n_features(features))
        except UnknownPlacesError:
            return
        read = tower.attention_of(call, tower.index)
        features["tower_attention"] = placed.carry(read.values), read.flops

    def _see(self, kind: str, taken: dict[str, Any]) -> Any:
        """Raises CheckpointError for pictures that the processor made in another size or layout."""
        try:
            return self.methods[kind](**taken, return_dict=True, output_hidden_states=True)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, IndexError) as error:
            raise CheckpointError(
                f"the vision tower of {self.name} cannot read the pictures of its processor: {one_line(error)}; {APART}"
            ) from error


def refuse_another_count(name: str, n_tokens: int, inputs: dict[str, Any]) -> None:
    """Raise CheckpointError unless the model `name` made a feature for each visual token of the prompts.

    `inputs` are those that VisionEncoder gives.
    """
    if "mm_encoder_outputs" not in inputs:
        return
    n_made = sum(map(n_features, inputs["mm_encoder_outputs"].values()))
    if n_made != n_tokens:
        raise CheckpointError(
            f"the processor of {name} puts {n_tokens} image tokens where the model makes {n_made} features; {APART}"
        )


def n_features(features: Any) -> int:
    """How many visual tokens the features are."""
    seen = features["pooler_output"]
    return sum(part.shape[:-1].numel() for part in (seen if isinstance(seen, list | tuple) else [seen]))


def n_bytes(values: Any) -> int:
    """What all tensors in nested dicts, lists and tuples take."""
    if isinstance(values, torch.Tensor):
        return values.nbytes
    items = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    return sum(n_bytes(item) for item in items)
