"""A task made ready for one model: prompts tokenised, vision features computed once and used by every evaluation."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from autoprune_lab.decoder.layout import Prompt
from autoprune_lab.features import VisionEncoder, n_bytes
from autoprune_lab.geometry import Geometry
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.tasks.base import Sample, Task
from autoprune_lab.tasks.pictures import sizes

GIB = 1 << 30


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of one kind or block; `places` are their positions in the task. Inputs are kept, or made anew."""

    places: tuple[int, ...]
    make: Callable[[], dict[str, Any]] = field(repr=False)
    kept: dict[str, Any] | None = field(default=None, repr=False)
    block: int = 0

    @property
    def inputs(self) -> dict[str, Any]:
        """The model's inputs for the samples."""
        return self.make() if self.kept is None else self.kept

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `forward` and `generate`; the model may change them."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in self.inputs.items()}


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """`geometries` and `samples` in the task's order; `batches` by kind or block, then by length to pad little."""

    task: Task
    samples: tuple[Sample, ...]
    geometries: tuple[Geometry, ...]
    batches: tuple[Batch, ...]


def prepare(
    vlm: VLM,
    task: Task,
    batch_size: int = 32,
    progress: bool = False,
    keep_features: bool = True,
    most_bytes: int | None = None,
    blocks: int = 1,
) -> PreparedTask:
    """Tokenise every prompt; with `keep_features` also run the vision tower now and keep what it gives.

    A sample's features take n_vision x hidden values (LLaVA-1.5-7B in bf16: 4.7 MB). Batches beyond `most_bytes` of
    them (None: 8 GiB, or a quarter of the GPU's free memory), or all without `keep_features`, open their pictures and
    run the tower anew in every evaluation. A batch holds one kind; with several `blocks` it holds one block, and
    every block has its share of each kind.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    samples = task.samples()
    encode = VisionEncoder(vlm)
    lengths: dict[int, tuple[int, int]] = {}
    batches, room = [], (_room(vlm) if most_bytes is None else most_bytes) if keep_features else 0
    labels = [sample.kind for sample in samples] if blocks == 1 else _blocks(samples, blocks)
    groups = by_length(vlm.processor, samples, labels, batch_size)
    for places in tqdm(groups, desc="reading the pictures", unit="batch", disable=not progress, leave=False):
        maker = _Maker(vlm, encode, tuple(samples[i] for i in places))
        tokenised = maker.tokenise()
        lengths.update(zip(places, _lengths(tokenised, vlm.model.config.image_token_id), strict=True))
        kept = encode(tokenised) if room > 0 else None
        room -= n_bytes(kept)
        batches.append(Batch(tuple(places), maker, kept, 0 if blocks == 1 else int(labels[places[0]])))
    config = vlm.model.config.get_text_config()
    geometries = tuple(Geometry.from_config(config, *lengths[i]) for i in range(len(samples)))
    return PreparedTask(task, samples, geometries, tuple(batches))


def by_length(processor: Any, samples: Sequence[Sample], labels: Sequence[str], size: int) -> list[list[int]]:
    """Places of the samples in batches of one label and like lengths, at most `size` each; no picture is decoded."""
    return list(_grouped(_order(processor, samples, labels), labels, size))


def prompt_text(processor: Any, sample: Sample) -> str:
    """The sample as the checkpoint's own chat template words it, up to where the answer starts.

    Raises CheckpointError where there is no template.
    """
    template = getattr(processor.tokenizer, "chat_template", None) if processor.chat_template is None else None
    if processor.chat_template is None and template is None:
        raise CheckpointError(
            f"{type(processor).__name__} has no chat template: put the checkpoint's chat_template.jinja into its folder"
        )
    content = [{"type": "image"} for _ in range(len(sample.images))] + [{"type": "text", "text": sample.question}]
    message = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(message, chat_template=template, add_generation_prompt=True))


def prompt_lengths(
    processor: Any, image_token_id: int, samples: Sequence[Sample], batch_size: int = 64
) -> list[tuple[int, int]]:
    """(n_vision, n_text) of every prompt; needs the processor only, no weights."""
    lengths = []
    for start in range(0, len(samples), batch_size):
        lengths += _lengths(_tokenise(processor, samples[start : start + batch_size]), image_token_id)
    return lengths


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes a batch's inputs from its samples."""

    vlm: VLM
    encode: VisionEncoder
    samples: tuple[Sample, ...]

    def __call__(self) -> dict[str, Any]:
        return self.encode(self.tokenise())

    def tokenise(self) -> dict[str, Any]:
        model = self.vlm.model
        moved = {name: value.to(model.device) for name, value in _tokenise(self.vlm.processor, self.samples).items()}
        if "pixel_values" in moved:
            moved["pixel_values"] = moved["pixel_values"].to(model.dtype)
        return moved


def _room(vlm: VLM) -> int:
    device = vlm.model.device
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 8 * GIB


def _order(processor: Any, samples: Sequence[Sample], labels: Sequence[str]) -> list[int]:
    """By label, then by what makes prompts long: the pictures' sizes, then the text."""
    texts = [prompt_text(processor, sample) for sample in samples]
    ids = processor.tokenizer(texts)["input_ids"] if texts else []
    return sorted(range(len(samples)), key=lambda i: (labels[i], sizes(samples[i].images), len(ids[i]), i))


def _blocks(samples: Sequence[Sample], n: int) -> list[str]:
    """The block of each sample, as a number that sorts: the kinds are dealt out to the blocks in turn."""
    dealt: Counter[str] = Counter()
    blocks = []
    for sample in samples:
        blocks.append(f"{dealt[sample.kind] % n:06d}")
        dealt[sample.kind] += 1
    return blocks


def _grouped(order: Sequence[int], labels: Sequence[str], size: int) -> Iterator[list[int]]:
    """Runs of at most `size` samples of one label."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == size or labels[i] != labels[group[0]]):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _lengths(inputs: dict[str, Any], image_token_id: int) -> list[tuple[int, int]]:
    prompt = Prompt.read(inputs["input_ids"], inputs["attention_mask"], image_token_id)
    return list(zip(prompt.stage.n_vision.tolist(), prompt.n_text.tolist(), strict=True))


def _tokenise(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    texts = [prompt_text(processor, sample) for sample in samples]
    images = [list(sample.images) for sample in samples]
    try:
        inputs = processor(text=texts, images=images if any(images) else None, padding=True, return_tensors="pt")
    except ValueError as error:
        raise CheckpointError(f"{type(processor).__name__} cannot read {samples[0].id}: {one_line(error)}") from error
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and name != "labels"}
