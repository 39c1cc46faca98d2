"""Vision features, computed once: what the decoder reads in place of pixels."""

import inspect
from typing import Any

import torch

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.tower import Tower
from autoprune_lab.models.checkpoint import VLM

KEPT = ("pooler_output", "deepstack_features")


class VisionEncoder:
    """Replaces pixels by the features the decoder reads, and keeps the one tower layer that [CLS] scorers need."""

    def __init__(self, vlm: VLM) -> None:
        self.model = vlm.model
        self.tower = Tower.of(Anatomy.of(vlm.model))
        self.takes = set(inspect.signature(vlm.model.get_image_features).parameters)

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The same inputs with `mm_encoder_outputs` for `pixel_values`; unchanged where there is no picture."""
        if "pixel_values" not in inputs:
            return inputs
        taken = {name: value for name, value in inputs.items() if name in self.takes}
        seen = self.model.get_image_features(**taken, return_dict=True, output_hidden_states=True)
        features = type(seen)(**{name: seen[name] for name in KEPT if name in seen})
        if self.tower is not None and seen.hidden_states is not None:
            wanted = self.tower.input_index
            features["hidden_states"] = tuple(
                state if i == wanted else None for i, state in enumerate(seen.hidden_states)
            )
        rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
        return rest | {"mm_encoder_outputs": {"image": features}}


def n_bytes(values: Any) -> int:
    """What all tensors in nested dicts, lists and tuples take."""
    if isinstance(values, torch.Tensor):
        return values.nbytes
    items = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else ()
    return sum(n_bytes(item) for item in items)
