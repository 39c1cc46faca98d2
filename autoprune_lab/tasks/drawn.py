"""Tasks whose questions and pictures are drawn from seeds: the embedded worlds of shapes."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoprune_lab.tasks.base import Sample, Task, check_choice
from autoprune_lab.tasks.pictures import Drawings
from autoprune_lab.testbed.shapes.questions import Question

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT = 2048  # samples of each world whose scenes and pictures are kept: a study draws each once
# First entry of every seed; training draws from single-number seeds of 1000 and more (testbed/training).
SPLITS = {"tune": 3, "report": 4}


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

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, `per_kind` each."""
        return tuple(self.sample(kind, i) for kind in self.chance() for i in range(self.per_kind))

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
