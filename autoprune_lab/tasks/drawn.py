"""Tasks whose questions and pictures are drawn from seeds: the embedded worlds of shapes."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from autoprune_lab.tasks.base import Sample, Task, check_choice
from autoprune_lab.tasks.pictures import Drawings
from autoprune_lab.testbed.shapes.questions import Question

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 2048  # samples of each world whose pictures are kept: a study draws each once
TOGETHER = 4096  # samples that are made to look at them together, where a task has more; so many scenes are kept
# First entry of every seed; training draws from single-number seeds of 1000 and more (testbed/training).
SPLITS = {"tune": 3, "report": 4}


@dataclass(frozen=True)
class Seeded(Sequence[Sample]):
    """Kind by kind `per_kind` samples, each made from a seed of its own when it is asked for.

    `make`: sample `i` of a kind. It should keep what it made: samples are asked for more than once.
    """

    make: Callable[[str, int], Sample]
    kinds: tuple[str, ...]
    per_kind: int

    def __len__(self) -> int:
        return len(self.kinds) * self.per_kind

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        places = range(len(self))[index]
        return self._at(places) if isinstance(places, int) else tuple(map(self._at, places))

    def _at(self, place: int) -> Sample:
        kind, i = divmod(place, self.per_kind)
        return self.make(self.kinds[kind], i)


def is_long(samples: Sized) -> bool:
    """Are they made from seeds, and so many that making all of them takes a while?"""
    return isinstance(samples, Seeded) and len(samples) > TOGETHER


def spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """All of them; TOGETHER, evenly spread, of so many that making all of them takes a while."""
    if not is_long(samples):
        return samples
    return [samples[i * len(samples) // TOGETHER] for i in range(TOGETHER)]


@dataclass(frozen=True)
class DrawnTask(Task):
    """`per_kind` samples of each kind of question; answers balanced, splits disjoint, all from seeds."""

    split: str = "tune"
    per_kind: int = 50

    max_new_tokens = 4  # three digits and the end token

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind)

    @abstractmethod
    def sample(self, kind: str, i: int) -> Sample:
        """Sample `i` of a kind: the same whatever `per_kind`."""

    def samples(self) -> Seeded:
        """Kind by kind, `per_kind` each."""
        return Seeded(self.sample, tuple(self.chance()), self.per_kind)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text equals the answer; spaces between digits do not count."""
        return float("".join(prediction.split()) in sample.answers)

    @abstractmethod
    def chance(self) -> Mapping[str, float]:
        """Accuracy of the best answer that ignores the picture, of every kind in order."""


def drawn_sample(
    split: str, kind: str, i: int, asked: Question, draw: "Callable[[], Sequence[Image]]", size: int
) -> Sample:
    """The sample of a question, whose one picture, `size` pixels high and wide, is drawn when it is looked at."""
    return Sample(f"{split}-{kind}-{i}", Drawings(draw, ((size, size),)), asked.text, (asked.answer,), kind)


def scene_and_question(
    split: str,
    kind: str,
    i: int,
    answers: Mapping[str, Sequence[str]],
    make_scene: Callable[[np.random.Generator], Any],
    ask: Callable[[Any, str, np.random.Generator, str | None], Question | None],
) -> tuple[Any, Question]:
    """Scenes are made until one allows the answer whose turn it is. `answers`: those of every kind; none: any."""
    rng = np.random.default_rng((SPLITS[split], list(answers).index(kind), i))
    wanted = answers[kind][i % len(answers[kind])] if answers[kind] else None
    question = None
    while question is None:
        scene = make_scene(rng)
        question = ask(scene, kind, rng, wanted)
    return scene, question
