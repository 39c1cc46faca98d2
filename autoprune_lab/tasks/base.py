"""What an evaluation needs of a benchmark."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One question about zero or more pictures; `kind` groups samples in reports."""

    id: str
    images: tuple["Image", ...]
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
