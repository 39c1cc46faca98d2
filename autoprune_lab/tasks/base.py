"""What an evaluation needs of a benchmark."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from autoprune_lab.records import Record


class TaskError(ValueError):
    """A benchmark's files are not as they should be; one line that names the file and the remedy."""


@dataclass(frozen=True)
class Sample:
    """One question about zero or more pictures (which may be opened only when asked for); `kind` groups samples."""

    id: str
    images: Sequence["Image"]
    question: str
    answers: tuple[str, ...]
    kind: str


class Task(ABC):
    """A list of samples and a rule that scores an answer."""

    name: str
    max_new_tokens: int

    @abstractmethod
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in a fixed order."""

    @abstractmethod
    def score(self, prediction: str, sample: Sample) -> float:
        """How right the decoded text is, in [0, 1]."""

    def chance(self) -> Mapping[str, float]:
        """Score per kind of the best answer that ignores the picture; empty when unknown."""
        return {}

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """The benchmark's official figures, by name, from one evaluation's rows; empty where the scores say it all."""
        return {}

    def notes(self) -> Sequence[str]:
        """What the user should know about the samples, such as rows that were left out; one line each."""
        return ()
