"""How far pictures shrink until the unpruned model costs what pruned ones do, by the processor's own counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from autoprune_lab.evaluation.prompts import extremes, prompt_lengths
from autoprune_lab.progress import progress
from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import Records
from autoprune_lab.tasks.base import Sample, Task, TaskError
from autoprune_lab.tasks.downsampled import DownsampledTask, scaled
from autoprune_lab.tasks.pictures import sizes

STEP = 2**0.25  # between scales that are tried until one is small enough
LEAST = 8  # pixels of a picture's shorter side: some processors take still shorter ones for colours

Sizes = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...]]
"""(width, height) of a sample's pictures, (time, width, height) of its videos."""


class DownsamplingError(ValueError):
    """Some prompt costs more than the bound however small its pictures are; `floor`: the ratio that it reaches."""

    def __init__(self, floor: float) -> None:
        super().__init__(f"no size of the pictures brings every prompt below {floor:.3f} of its FLOPs")
        self.floor = floor


@dataclass(frozen=True, eq=False)
class Reader:
    """What a checkpoint reads of a prompt, without weights: its processor, visual token ids and decoder."""

    processor: Any
    visual_ids: Sequence[int]
    decoder: Geometry

    def read(self, sample: Sample, scale: float = 1.0) -> Geometry | None:
        """The sample's prompt with pictures of that scale; None where the processor refuses them.

        Counted on blank ones, so that none is decoded.
        """
        blank = [Image.new("RGB", scaled(size, scale)) for size in sizes(sample.images)]
        videos = tuple(
            replace(video, frames=np.zeros((video.shape[0], *scaled(video.shape[1:], scale)[::-1], 3), np.uint8))
            for video in sample.videos
        )
        try:
            ((n_vision, n_text),) = prompt_lengths(
                self.processor, self.visual_ids, [replace(sample, images=blank, videos=videos)]
            )
        except TaskError:
            return None
        return self.decoder.with_tokens(n_vision, n_text)


def downsampled(task: Task, reader: Reader, bound: float) -> DownsampledTask:
    """The task with every picture and frame as large as `bound` of its own prompt's FLOPs pays for, in (0, 1].

    The scale is found by bisection, to a pixel of the longer side, one for all pictures of a sample; where a processor
    counts up and down as pictures shrink, it is one below which more would cost too much, not always the largest. What
    cannot be read, or shows no picture, stays as it is. Raises DownsamplingError where a prompt stays above the bound.
    """
    found: dict[tuple[Sizes, Geometry], tuple[float, float]] = {}
    scales, floor = {}, 0.0
    for sample in progress(task.samples(), doing=f"shrinking the pictures of {task.name}", unit="samples"):
        sides = _sizes(sample)
        whole = reader.read(sample) if _readable(sample, sides) else None
        if whole is None or not whole.n_vision:
            scales[sample.id] = 1.0
            continue
        if (sides, whole) not in found:
            found[sides, whole] = _fit(reader, sample, sides, whole, bound)
        scales[sample.id], ratio = found[sides, whole]
        floor = max(floor, ratio)
    if floor > bound:
        raise DownsamplingError(floor)
    return DownsampledTask(task, scales)


def fixed_tokens(samples: Sequence[Sample], reader: Reader) -> int | None:
    """Visual tokens of a middling prompt where none has fewer of them for smaller pictures; None where some has.

    Of a benchmark those with the smallest and the largest pictures are asked. Raises TaskError where none shows any.
    """
    counts = []
    for sides, sample in {_sizes(sample): sample for sample in extremes(samples)}.items():
        whole = reader.read(sample) if _readable(sample, sides) else None
        if whole is None or not whole.n_vision:
            continue
        if any(small.n_vision < whole.n_vision for _, small in _smaller(reader, sample, sides)):
            return None
        counts.append(whole.n_vision)
    if not counts:
        raise TaskError("no prompt shows a picture, there is nothing to shrink")
    return sorted(counts)[len(counts) // 2]


def enlarged(task: Task, part: float) -> DownsampledTask:
    """Every picture with that part of its pixels, in (0, 1], then brought back to its size: no fewer tokens."""
    return DownsampledTask(task, {sample.id: part**0.5 for sample in task.samples()}, enlarged=True)


def against(records: Records, whole: Records) -> Records:
    """Records of smaller pictures, their costs set against those of the pictures as they are."""
    own = {row.id: row for row in whole.rows}
    rows = [
        replace(row, unpruned_flops=own[row.id].unpruned_flops, unpruned_macs=own[row.id].unpruned_macs)
        for row in records.rows
    ]
    return replace(records, rows=tuple(rows))


def _fit(reader: Reader, sample: Sample, sides: Sizes, whole: Geometry, bound: float) -> tuple[float, float]:
    """The scale, and what the prompt then costs; where none is within the bound the cheapest that was tried."""

    def ratio(prompt: Geometry) -> float:
        return unpruned_flops(prompt) / unpruned_flops(whole)

    if bound >= 1:
        return 1.0, 1.0
    low = high = 1.0
    cost = 1.0  # of `low`
    for scale, prompt in _smaller(reader, sample, sides):
        if ratio(prompt) < cost:
            low, cost = scale, ratio(prompt)
        if cost <= bound:
            break
    longest = max(side for size in _frames(sides) for side in size)
    while cost <= bound and (high - low) * longest > 1:
        middle = (low + high) / 2
        between = reader.read(sample, middle)
        if between is not None and ratio(between) <= bound:
            low, cost = middle, ratio(between)
        else:
            high = middle
    return low, cost


def _smaller(reader: Reader, sample: Sample, sides: Sizes) -> Iterable[tuple[float, Geometry]]:
    """Scales from the least on, a step apart, that the processor takes, and the prompts of them."""
    scale = LEAST / min(side for size in _frames(sides) for side in size)
    while scale < 1:
        if (prompt := reader.read(sample, scale)) is not None:
            yield scale, prompt
        scale *= STEP


def _sizes(sample: Sample) -> Sizes:
    return sizes(sample.images), tuple(video.shape for video in sample.videos)


def _readable(sample: Sample, sides: Sizes) -> bool:
    """Does it show something, all of which has a known size?"""
    return bool(len(sides[0]) + len(sides[1])) and len(sides[0]) == len(sample.images) and all(sides[1])


def _frames(sides: Sizes) -> list[tuple[int, ...]]:
    """(width, height) of everything."""
    return [*sides[0], *(shape[1:] for shape in sides[1])]
