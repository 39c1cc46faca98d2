"""A task made ready for one model: prompts tokenised, vision features computed once and used by every evaluation."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from autoprune_lab.decoder.anatomy import geometry_of
from autoprune_lab.decoder.eager import plain
from autoprune_lab.decoder.layout import Prompt
from autoprune_lab.evaluation.features import VisionEncoder, n_bytes, refuse_another_count
from autoprune_lab.models.actor import action_shape, answers_in_actions
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.processor import refuse_videos
from autoprune_lab.models.template import apply_template
from autoprune_lab.models.visual_tokens import MARKS, visual_token_ids
from autoprune_lab.progress import progress as bar
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import LeftOut
from autoprune_lab.tasks.base import Sample, Task, TaskError
from autoprune_lab.tasks.pictures import Album, Drawings, PictureError, sizes

GIB = 1 << 30
BATCH_SIZE = 64
CHUNK = 1024  # prompts tokenised at once to see how long they are: the tokens of all would be most of the memory


class RefusedError(CheckpointError):
    """Samples that a checkpoint's processor does not take; one line."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of one block; `places` are their positions in the task. Inputs are kept, or made anew.

    `make` makes them with features, `show` with pixels, for a pruner that looks at more of the tower than is kept.
    """

    places: tuple[int, ...]
    make: Callable[[], dict[str, Any]] = field(repr=False)
    show: Callable[[], dict[str, Any]] = field(repr=False)
    kept: dict[str, Any] | None = field(default=None, repr=False)
    block: int = 0

    @property
    def inputs(self) -> dict[str, Any]:
        """The model's inputs for the samples."""
        return self.make() if self.kept is None else self.kept

    def arguments(self, pixels: bool = False) -> dict[str, Any]:
        """Keyword arguments for `forward` and `generate`, with features or `pixels`; the model may change them."""
        inputs = self.show() if pixels else self.inputs
        return {name: dict(value) if isinstance(value, dict) else value for name, value in inputs.items()}


@dataclass(frozen=True, eq=False)
class PreparedTask:
    """`geometries` and `samples` in the task's order; `batches` by block, then by length to pad little.

    `left_out`, by place in the task: what cannot be shown to the model. `samples` lacks it; batches count without it.
    """

    task: Task
    samples: tuple[Sample, ...]
    geometries: tuple[Geometry, ...]
    batches: tuple[Batch, ...]
    left_out: Mapping[int, LeftOut] = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """The place in the task of each of `samples`."""
        return [i for i in range(len(self.samples) + len(self.left_out)) if i not in self.left_out]


def prepare(
    vlm: VLM,
    task: Task,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
    keep_features: bool = True,
    most_bytes: int | None = None,
    blocks: int | Sequence[int] = 1,
    may_be_empty: bool = False,
) -> PreparedTask:
    """Tokenise every prompt; with `keep_features` also run the vision tower now and keep what it gives.

    A sample's features take n_vision x hidden values (LLaVA-1.5-7B in bf16: 4.7 MB). Batches beyond `most_bytes` of
    them (None: 8 GiB, or a quarter of the GPU's free memory), or all without `keep_features`, open their pictures and
    run the tower anew in every evaluation. Batches are full whatever kinds there are; with several `blocks` a batch
    holds one block, and every block has its share of each kind. The block of every sample may be given instead, by its
    place in the task.

    A sample whose picture cannot be decoded, or that the processor refuses, is left out and named. Raises TaskError
    where that leaves none, unless it `may_be_empty`, and as `check_answers` does.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    check_answers(vlm.processor, task)
    samples = task.samples()
    encode = VisionEncoder(vlm)
    lengths: dict[int, tuple[int, int]] = {}
    left_out: dict[int, LeftOut] = {}
    batches, room = [], (_room(vlm) if most_bytes is None else most_bytes) if keep_features else 0
    dealt = _blocks(samples, blocks) if isinstance(blocks, int) else blocks
    groups = by_length(vlm.processor, samples, batch_size, dealt)
    for places in bar(groups, doing=f"reading the pictures of {task.name}", unit="batches", shown=progress):
        maker, tokenised, refused = _Maker(vlm, encode, tuple(samples[i] for i in places)).begun()
        left_out |= {places[i]: why for i, why in refused.items()}
        places = [place for place in places if place not in left_out]
        if not places:
            continue
        counted = _lengths(tokenised, visual_token_ids(vlm.model.config))
        lengths.update(zip(places, counted, strict=True))
        kept = encode(tokenised) if room > 0 else None
        if kept is not None:
            refuse_another_count(vlm.name, sum(n_vision for n_vision, _ in counted), kept)
        room -= n_bytes(kept)
        batches.append(Batch(tuple(places), maker, maker.tokenise, kept, dealt[places[0]]))
    if left_out and not lengths and not may_be_empty:
        raise none_shown(task.name, list(left_out.values()))
    decoder = geometry_of(plain(vlm.model))
    shown = {place: i for i, place in enumerate(sorted(lengths))}
    return PreparedTask(
        task,
        tuple(samples[place] for place in shown),
        tuple(decoder.with_tokens(*lengths[place]) for place in shown),
        tuple(replace(batch, places=tuple(shown[place] for place in batch.places)) for batch in batches),
        dict(sorted(left_out.items())),
    )


def check_answers(processor: Any, task: Task) -> None:
    """Raise TaskError where a model answers in actions, and the task is answered in words, or in other actions."""
    if not answers_in_actions(processor):
        return
    asked, (steps, dim) = task.actions(), action_shape(processor)
    if asked is None:
        raise TaskError(
            f"task {task.name} is answered in words, the checkpoint answers in actions: choose task=lerobot"
        )
    if asked[0] > steps or asked[1] != dim:
        raise TaskError(
            f"task {task.name} asks for {asked[0]} actions of {asked[1]} numbers, the checkpoint makes {steps} of "
            f"{dim}: choose a smaller task.horizon, or the robot's own data"
        )


def batch_of(vlm: VLM, samples: Sequence[Sample]) -> Batch:
    """These samples as one batch in their order, its features kept. Raises RefusedError as their processor does."""
    maker = _Maker(vlm, VisionEncoder(vlm), tuple(samples))
    return Batch(tuple(range(len(samples))), maker, maker.tokenise, maker())


def at_once(vlm: VLM, task: Task, samples: Sequence[Sample]) -> PreparedTask:
    """These samples of a task as one batch in their order. Raises RefusedError as their processor does."""
    maker = _Maker(vlm, VisionEncoder(vlm), tuple(samples))
    tokenised, decoder = maker.tokenise(), geometry_of(plain(vlm.model))
    lengths = _lengths(tokenised, visual_token_ids(vlm.model.config))
    batch = Batch(tuple(range(len(samples))), maker, maker.tokenise, maker.encode(tokenised))
    return PreparedTask(task, tuple(samples), tuple(decoder.with_tokens(*pair) for pair in lengths), (batch,))


def by_length(
    processor: Any, samples: Sequence[Sample], size: int, blocks: Sequence[int] | None = None
) -> list[list[int]]:
    """Places of the samples in batches of like lengths and one block, at most `size` each; no picture is decoded.

    Videos of one batch have equally many frames, and are not mixed with prompts that have none: some processors stack
    all videos, and some call frames what they call pictures.
    """
    keys = [(block, _frames(sample)) for block, sample in zip(blocks or [0] * len(samples), samples, strict=True)]
    return list(_grouped(_order(processor, samples, keys), keys, size))


def prompt_text(processor: Any, sample: Sample) -> str:
    """The sample as the checkpoint's own chat template words it, up to where the answer starts.

    Raises CheckpointError as `apply_template` does, and for a video that the processor cannot show.
    """
    if sample.videos:
        refuse_videos(processor)
    kinds = ["image"] * len(sample.images) + ["video"] * len(sample.videos)  # counted: iterating would decode them
    shown = [{"type": kind} for kind in kinds]
    return apply_template(processor, [{"role": "user", "content": [*shown, {"type": "text", "text": sample.question}]}])


def prompt_lengths(
    processor: Any, visual_ids: Sequence[int], samples: Sequence[Sample], batch_size: int = 64
) -> list[tuple[int, int]]:
    """(n_vision, n_text) of every prompt that can be shown; needs the processor only, no weights.

    Raises TaskError where none can.
    """
    lengths: list[tuple[int, int]] = []
    refused: list[LeftOut] = []
    for places in _grouped(range(len(samples)), [_frames(sample) for sample in samples], batch_size):
        _, inputs, left_out = _usable(processor, [samples[i] for i in places])
        lengths += _lengths(inputs, visual_ids) if inputs else []
        refused += left_out.values()
    if refused and not lengths:
        raise none_shown("", refused)
    return lengths


def extremes(samples: Sequence[Sample], most: int = 64) -> list[Sample]:
    """All samples whose pictures are in memory; of those in files `most`, so that few pictures are decoded.

    These have the longest questions, the smallest and the largest pictures: the ends of what a prompt costs. Of samples
    whose pictures are drawn, the first with each number of words and each size.
    """
    drawn = [sample for sample in samples if isinstance(sample.images, Drawings)]
    opened = [sample for sample in samples if not isinstance(sample.images, Album | Drawings)]
    opened += {(len(one.question.split()), sizes(one.images)): one for one in reversed(drawn)}.values()
    closed = [sample for sample in samples if isinstance(sample.images, Album)]
    if len(closed) <= most:
        return opened + closed
    by_text = sorted(closed, key=lambda sample: -len(sample.question))
    by_size = sorted(closed, key=_n_pixels)
    picked = [*by_text[: most // 2], *by_size[: most // 4], *by_size[-(most // 4) :]]
    return opened + list({sample.id: sample for sample in picked}.values())


def none_shown(name: str, left_out: Sequence[LeftOut]) -> TaskError:
    """The error for a task of which nothing can be shown to the model."""
    first = left_out[0]
    whose = f"task {name}: " if name else ""
    return TaskError(f"{whose}none of {len(left_out)} samples can be shown to the model; {first.id}: {first.reason}")


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes a batch's inputs from its samples."""

    vlm: VLM
    encode: VisionEncoder
    samples: tuple[Sample, ...]

    def __call__(self) -> dict[str, Any]:
        return self.encode(self.tokenise())

    def tokenise(self) -> dict[str, Any]:
        """The inputs without features."""
        return self._moved(_tokenise(self.vlm.processor, self.samples))

    def begun(self) -> "tuple[_Maker, dict[str, Any], dict[int, LeftOut]]":
        """The maker of those samples that can be shown, their inputs without features, and the others by place."""
        good, inputs, left_out = _usable(self.vlm.processor, self.samples)
        return replace(self, samples=tuple(self.samples[i] for i in good)), self._moved(inputs), left_out

    def _moved(self, inputs: dict[str, Any]) -> dict[str, Any]:
        model = self.vlm.model
        moved = {name: value.to(model.device) for name, value in inputs.items()}
        for name in {"pixel_values", "pixel_values_videos", "state"} & moved.keys():
            moved[name] = moved[name].to(model.dtype)
        return moved


def _room(vlm: VLM) -> int:
    device = vlm.model.device
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 8 * GIB


def _order(processor: Any, samples: Sequence[Sample], labels: Sequence[Any]) -> list[int]:
    """By label, then by what makes prompts long: the sizes of pictures and videos, then the text."""
    lengths: list[int] = []
    for start in range(0, len(samples), CHUNK):
        texts = [prompt_text(processor, sample) for sample in samples[start : start + CHUNK]]
        lengths += map(len, processor.tokenizer(texts)["input_ids"])
    shown = [(sizes(sample.images), tuple(video.shape for video in sample.videos)) for sample in samples]
    return sorted(range(len(samples)), key=lambda i: (labels[i], shown[i], lengths[i], i))


def _frames(sample: Sample) -> tuple[int, ...]:
    """How many frames each of its videos has."""
    return tuple(len(video.frames) for video in sample.videos)


def _n_pixels(sample: Sample) -> int:
    return sum(map(prod, sizes(sample.images))) + sum(prod(video.shape) for video in sample.videos if video.shape)


def _blocks(samples: Sequence[Sample], n: int) -> list[int]:
    """The block of each sample: the kinds are dealt out to the blocks in turn."""
    dealt: Counter[str] = Counter()
    blocks = []
    for sample in samples:
        blocks.append(dealt[sample.kind] % n)
        dealt[sample.kind] += 1
    return blocks


def _grouped(order: Sequence[int], labels: Sequence[Any], size: int) -> Iterator[list[int]]:
    """Runs of at most `size` samples of one label."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == size or labels[i] != labels[group[0]]):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _lengths(inputs: dict[str, Any], visual_ids: Sequence[int]) -> list[tuple[int, int]]:
    prompt = Prompt.read(inputs["input_ids"], inputs["attention_mask"], visual_ids, marks=inputs.get(MARKS))
    return list(zip(prompt.stage.n_vision.tolist(), prompt.n_text.tolist(), strict=True))


def _usable(processor: Any, samples: Sequence[Sample]) -> tuple[list[int], dict[str, Any], dict[int, LeftOut]]:
    """Places of the samples that can be shown, their inputs, and by place why the others cannot.

    Where a batch fails, each sample is tried alone: the message of a batch may be about any of them.
    """
    try:
        return list(range(len(samples))), _tokenise(processor, samples), {}
    except (PictureError, RefusedError):
        left_out = {i: why for i, sample in enumerate(samples) if (why := _refusal(processor, sample)) is not None}
        if not left_out:
            raise
    good = [i for i in range(len(samples)) if i not in left_out]
    return good, _tokenise(processor, [samples[i] for i in good]) if good else {}, left_out


def _refusal(processor: Any, sample: Sample) -> LeftOut | None:
    try:
        _tokenise(processor, [sample])
    except (PictureError, RefusedError) as error:
        return LeftOut(sample.id, str(error))
    return None


def _tokenise(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    texts = [prompt_text(processor, sample) for sample in samples]
    images = [list(sample.images) for sample in samples]
    given = _filmed(processor, texts, samples) | _states(processor, samples)
    try:
        inputs = processor(
            text=texts, images=images if any(images) else None, padding=True, return_tensors="pt", **given
        )
    except Exception as error:  # of any kind: every processor has its own for pictures it does not take
        names = ", ".join(sample.id for sample in samples)
        raise RefusedError(f"{type(processor).__name__} cannot read {names}: {one_line(error)}") from error
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and name != "labels"}


def _states(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """The robot's states as a processor takes them that answers in actions, else nothing. Raises RefusedError."""
    if not answers_in_actions(processor):
        return {}
    n = len(processor.state_mean)
    for sample in samples:
        if len(sample.state) != n:
            raise RefusedError(f"{sample.id} has a state of {len(sample.state)} numbers, the checkpoint reads {n}")
    return {"state": [sample.state for sample in samples], "max_length": None}


def _filmed(processor: Any, texts: Sequence[str], samples: Sequence[Sample]) -> dict[str, Any]:
    """The videos as a processor of transformers takes them, in the order of the prompts, all of their frames shown.

    Empty where there are none. Raises RefusedError where a prompt does not have one place for each: what has none would
    not be shown.
    """
    videos = [video for sample in samples for video in sample.videos]
    if not videos:
        return {}
    token = getattr(processor, "video_token", None)
    for text, sample in zip(texts, samples, strict=True):
        if token is not None and (n := text.count(token)) != len(sample.videos):
            raise RefusedError(
                f"the prompt of {sample.id} has {token} {n} times for {len(sample.videos)} videos: does "
                "chat_template.jinja word videos, and is the token not in the question?"
            )
    told = {"video_metadata": [video.metadata() for video in videos], "do_sample_frames": False}
    return {"videos": [video.pixels() for video in videos], "videos_kwargs": told}
