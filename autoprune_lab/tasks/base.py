"""What an evaluation needs of a benchmark."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.evidence.history import History
from autoprune_lab.tasks.errors import TaskError as TaskError

if TYPE_CHECKING:
    from PIL.Image import Image

    from autoprune_lab.statistics.records import Record
    from autoprune_lab.tasks.videos import Video


@dataclass(frozen=True)
class Sample:
    """One question about zero or more pictures and videos (which may be opened only when asked for).

    They are shown before the question, pictures first. `kind` groups samples. `state`: of the robot that sees them, for
    models that answer in actions.
    """

    id: str
    images: Sequence["Image"]
    question: str
    answers: tuple[str, ...]
    kind: str
    videos: Sequence["Video"] = ()
    state: tuple[float, ...] = ()


class Episode(ABC):
    """A closed loop: what the model answers decides what it is shown next. All state of an episode lives in it.

    `history` is kept by who plays it, for pruners that go by what earlier decisions looked at.
    """

    history: History = ()

    @abstractmethod
    def look(self) -> Sample | None:
        """What the model is shown now; None when the episode is over."""

    @abstractmethod
    def act(self, answer: str) -> None:
        """The model's answer to what was shown."""

    def state(self) -> Mapping[str, float]:
        """What is worth drawing over the episode's time, by name and unit; `seconds`, if there, is the time."""
        return {}

    @abstractmethod
    def outcome(self) -> str:
        """What came of it, as text, which the task scores as it scores an answer."""


def check_choice(split: str, splits: Collection[str], per_kind: int | None, may_be_all: bool = False) -> None:
    """Raise ValueError unless `split` is one of `splits` and `per_kind` counts samples, or is None where it may be."""
    if split not in splits:
        raise ValueError(f"task.split {split!r} is unknown; choose from {', '.join(splits)}")
    if per_kind is None and may_be_all:
        return
    if not isinstance(per_kind, int) or per_kind < 1:
        or_null = ", or null" if may_be_all else ""
        raise ValueError(f"task.per_kind {per_kind!r} must be a whole number of at least 1{or_null}")


class Task(ABC):
    """A list of samples and a rule that scores an answer."""

    name: str
    max_new_tokens: int

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """All samples, in a fixed order; they may be made only when they are asked for."""

    @abstractmethod
    def score(self, prediction: str, sample: Sample) -> float:
        """How right the decoded text is, in [0, 1]."""

    def episode(self, sample: Sample) -> Episode | None:
        """In a closed loop: the episode that begins with the sample; None where a sample is answered once."""
        return None

    @property
    def closed_loop(self) -> bool:
        """Do answers decide what is shown next? A task does one or the other with all of its samples."""
        return self.episode(self.samples()[0]) is not None

    def actions(self) -> tuple[int, int] | None:
        """How many actions of how many numbers answer a sample; None where it is answered in other words."""
        return None

    def chance(self) -> Mapping[str, float]:
        """Score per kind of the best answer that ignores the picture; empty when unknown."""
        return {}

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """The benchmark's official figures, by name, from one evaluation's rows; empty where the scores say it all."""
        return {}

    def notes(self) -> Sequence[str]:
        """What the user should know about the samples, such as rows that were left out; one line each."""
        return ()
