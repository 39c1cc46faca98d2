"""A task shown with smaller pictures and frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

from autoprune_lab.tasks.base import Episode, Sample, Task, TaskError
from autoprune_lab.tasks.pictures import sizes
from autoprune_lab.tasks.videos import Video

if TYPE_CHECKING:
    from PIL.Image import Image

    from autoprune_lab.statistics.records import Record

NO_GREYS = ("1", "P")  # modes of Pillow in which no pixel can lie between two others


@dataclass(frozen=True, eq=False)
class Shrunk(Sequence["Image"]):
    """Pictures with `scale` of their sides, in (0, 1], made when they are asked for; `enlarged`: and brought back."""

    images: Sequence["Image"]
    scale: float
    enlarged: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> "Image": ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[Image]": ...
    def __getitem__(self, index: int | slice) -> "Image | Sequence[Image]":
        if isinstance(index, slice):
            return replace(self, images=self.images[index])
        return self._made(self.images[index])

    def __iter__(self) -> "Iterator[Image]":
        """In one pass over the pictures."""
        return map(self._made, self.images)

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of each, see `sizes`."""
        whole = sizes(self.images)
        return whole if self.enlarged else tuple(scaled(size, self.scale) for size in whole)

    def _made(self, image: "Image") -> "Image":
        from PIL.Image import Resampling

        greyed = image.convert("RGB") if image.mode in NO_GREYS else image
        small = greyed.resize(scaled(image.size, self.scale), Resampling.BICUBIC)
        return small.resize(image.size, Resampling.BICUBIC) if self.enlarged else small


@dataclass(frozen=True, eq=False)
class DownsampledTask(Task):
    """The samples of `task` that `scales` names, each with its pictures and frames at its scale, see `Shrunk`."""

    task: Task
    scales: Mapping[str, float]
    enlarged: bool = False
    name: str = field(init=False)
    max_new_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.task.name)
        object.__setattr__(self, "max_new_tokens", self.task.max_new_tokens)

    def samples(self) -> tuple[Sample, ...]:
        """In the task's order."""
        return tuple(self._shown(sample) for sample in self.task.samples() if sample.id in self.scales)

    def score(self, prediction: str, sample: Sample) -> float:
        """As the task does."""
        return self.task.score(prediction, sample)

    def episode(self, sample: Sample) -> Episode | None:
        """None. Raises TaskError for a closed loop: what its episodes show later would have its full size."""
        if self.task.episode(replace(sample, images=())) is not None:
            raise TaskError(f"task {self.name} is a closed loop, which cannot be shown with smaller pictures")
        return None

    def actions(self) -> tuple[int, int] | None:
        """The task's."""
        return self.task.actions()

    def chance(self) -> Mapping[str, float]:
        """The task's."""
        return self.task.chance()

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """The task's."""
        return self.task.summary(rows)

    def only(self, ids: Sequence[str]) -> "DownsampledTask":
        """Of these samples alone."""
        return replace(self, scales={name: self.scales[name] for name in ids})

    def _shown(self, sample: Sample) -> Sample:
        scale = self.scales[sample.id]
        if scale == 1:
            return sample
        shrunk = Shrunk(sample.images, scale, self.enlarged) if len(sample.images) else sample.images
        return replace(sample, images=shrunk, videos=tuple(self._filmed(video, scale) for video in sample.videos))

    def _filmed(self, video: Video, scale: float) -> Video:
        from PIL import Image

        frames = video.frames
        pictures = [Image.fromarray(one) for one in frames] if isinstance(frames, np.ndarray) else frames
        return replace(video, frames=Shrunk(pictures, scale, self.enlarged))


def scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    """(width, height) at `scale`, at least a pixel each."""
    width, height = (max(round(side * scale), 1) for side in size)
    return width, height
