"""A task made ready for one model: prompts tokenised, vision features computed once and used by every evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers.modeling_outputs import BaseModelOutputWithPooling

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.tower import Tower
from autoprune_lab.geometry import Geometry
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.tasks.base import Sample, Task


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of one kind and the model's inputs for them; `places` are their positions in the task."""

    places: tuple[int, ...]
    inputs: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `forward` and `generate`; the model may change them."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in self.inputs.items()}


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """`geometries` and `samples` in the task's order; `batches` sorted by kind and length, to pad little."""

    task: Task
    samples: tuple[Sample, ...]
    geometries: tuple[Geometry, ...]
    batches: tuple[Batch, ...]


def prepare(
    vlm: VLM, task: Task, batch_size: int = 32, progress: bool = False, keep_features: bool = True
) -> PreparedTask:
    """Tokenise every prompt; with `keep_features` also run the vision tower now and keep what it gives.

    A sample's features take n_vision x hidden values (LLaVA-1.5-7B in bf16: 4.7 MB); without `keep_features` the pixels
    are kept and the tower runs in every evaluation.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    samples = task.samples()
    lengths = prompt_lengths(vlm.processor, vlm.model.config.image_token_id, samples)
    config = vlm.model.config.get_text_config()
    geometries = tuple(Geometry.from_config(config, n_vision, n_text) for n_vision, n_text in lengths)
    order = sorted(range(len(samples)), key=lambda i: (samples[i].kind, sum(lengths[i]), i))
    groups = list(_grouped(order, samples, batch_size))
    encode = VisionEncoder(vlm) if keep_features else None
    batches = []
    for places in tqdm(groups, desc="reading the pictures", unit="batch", disable=not progress, leave=False):
        inputs = _inputs(vlm, [samples[i] for i in places])
        batches.append(Batch(tuple(places), inputs if encode is None else encode(inputs)))
    return PreparedTask(task, samples, geometries, tuple(batches))


def prompt_text(processor: Any, sample: Sample) -> str:
    """The sample as the checkpoint's own chat template words it, up to where the answer starts."""
    content = [{"type": "image"} for _ in sample.images] + [{"type": "text", "text": sample.question}]
    message = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(message, add_generation_prompt=True))


def prompt_lengths(
    processor: Any, image_token_id: int, samples: Sequence[Sample], batch_size: int = 64
) -> list[tuple[int, int]]:
    """(n_vision, n_text) of every prompt; needs the processor only, no weights."""
    lengths = []
    for start in range(0, len(samples), batch_size):
        inputs = _tokenise(processor, samples[start : start + batch_size])
        visual = (inputs["input_ids"] == image_token_id).sum(1)
        total = inputs["attention_mask"].sum(1)
        lengths += list(zip(visual.tolist(), (total - visual).tolist(), strict=True))
    return lengths


class VisionEncoder:
    """Replaces pixels by the features the decoder reads, and keeps the one tower layer that [CLS] scorers need."""

    def __init__(self, vlm: VLM) -> None:
        self.model = vlm.model
        self.tower = Tower.of(Anatomy.of(vlm.model))

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The same inputs with `mm_encoder_outputs` for `pixel_values`; unchanged where there is no picture."""
        if "pixel_values" not in inputs:
            return inputs
        rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
        extra = {name: value for name, value in rest.items() if name in ("image_sizes", "image_grid_thw")}
        seen = self.model.get_image_features(
            pixel_values=inputs["pixel_values"], return_dict=True, output_hidden_states=True, **extra
        )
        features = BaseModelOutputWithPooling(pooler_output=seen.pooler_output)
        if self.tower is not None and seen.hidden_states is not None:
            wanted = self.tower.input_index
            features["hidden_states"] = tuple(
                state if i == wanted else None for i, state in enumerate(seen.hidden_states)
            )
        return rest | {"mm_encoder_outputs": {"image": features}}


def _grouped(order: Sequence[int], samples: Sequence[Sample], size: int) -> Iterator[list[int]]:
    """Runs of at most `size` samples of one kind."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == size or samples[i].kind != samples[group[0]].kind):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _tokenise(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    texts = [prompt_text(processor, sample) for sample in samples]
    images = [image for sample in samples for image in sample.images]
    return dict(processor(text=texts, images=images or None, padding=True, return_tensors="pt"))


def _inputs(vlm: VLM, samples: Sequence[Sample]) -> dict[str, Any]:
    model = vlm.model
    moved = {name: value.to(model.device) for name, value in _tokenise(vlm.processor, samples).items()}
    if "pixel_values" in moved:
        moved["pixel_values"] = moved["pixel_values"].to(model.dtype)
    return moved
