"""What every benchmark on disk shares: choosing rows, checking pictures, telling what was left out."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from autoprune_lab.tasks.base import Sample, Task, TaskError, check_choice
from autoprune_lab.tasks.pictures import Album, MissingPictureError, Picture, PictureError
from autoprune_lab.tasks.selection import SPLITS, Row, choose

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Benchmark(Task):
    """`path`: a dataset of the hub in the local cache, a folder, or a file. A subclass says how its rows are read.

    `images`, `annotations`: where they are when not in their usual place beside the questions. `split`: tune or report,
    two halves that share no picture, or all. `per_kind`: at most so many samples of a kind; None: all.
    """

    path: str
    images: str | None = None
    annotations: str | None = None
    split: str = "tune"
    per_kind: int | None = 50

    max_new_tokens = 16

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind, may_be_all=True)

    @abstractmethod
    def rows(self) -> Iterable[Row]:
        """Every row of the files, those without answers too. Raises TaskError."""

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, each in the files' order. Raises TaskError when nothing is left."""
        return _selected(self).samples

    def notes(self) -> Sequence[str]:
        """How many rows were left out, and why."""
        return _selected(self).notes


@dataclass(frozen=True)
class _Selected:
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


@cache
def _selected(task: Benchmark) -> _Selected:
    rows = list(task.rows())
    answered = [row for row in rows if row.answers]
    if not answered:
        raise TaskError(f"{task.path}: none of its {len(rows)} rows has an answer; the public test halves have none")
    chosen = choose(answered, task.split, task.per_kind)
    broken = _broken(chosen)
    lost = {row.group or row.id for row in chosen if row.id in broken}
    samples = [
        Sample(row.id, Album(row.pictures), row.question, row.answers, row.kind)
        for row in sorted(chosen, key=lambda row: row.kind)
        if (row.group or row.id) not in lost
    ]
    if not samples:
        why = next(iter(broken.values())) if broken else f"no picture falls into its {task.split!r} half"
        raise TaskError(f"{task.path}: no sample is left; {why}")
    return _Selected(tuple(samples), _account(task, len(rows) - len(answered), len(chosen) - len(samples), broken))


def _broken(rows: Sequence[Row]) -> dict[str, PictureError]:
    """By row id, what is wrong with its picture."""
    known: dict[Picture, PictureError | None] = {}
    for picture in dict.fromkeys(picture for row in rows for picture in row.pictures):
        try:
            picture.check()
            known[picture] = None
        except PictureError as error:
            known[picture] = error
    found = {row.id: next((known[p] for p in row.pictures if known[p] is not None), None) for row in rows}
    return {name: error for name, error in found.items() if error is not None}


def _account(task: Benchmark, unanswered: int, lost: int, broken: dict[str, PictureError]) -> tuple[str, ...]:
    reasons = Counter("missing" if isinstance(error, MissingPictureError) else "broken" for error in broken.values())
    parts = [f"{unanswered} rows without an answer"] if unanswered else []
    parts += [f"{n} with a {why} picture" for why, n in sorted(reasons.items())]
    parts += [f"{lost - len(broken)} that belong to these"] if lost > len(broken) else []
    if not parts:
        return ()
    example = f"; the first: {next(iter(broken.values()))}" if broken else ""
    return (f"task {task.name}, {task.split}: left out {', '.join(parts)}{example}",)


def ask(question: str, suffix: str = SHORT) -> str:
    """The question with the benchmark's instruction on a line of its own, if it is not already there."""
    return question if question.rstrip().endswith(suffix) else f"{question.strip()}\n{suffix}"


def identity(pictures: Sequence[Picture]) -> str:
    """An image id from the pictures' content, or from their place where they cannot be read."""
    try:
        return "+".join(picture.digest() for picture in pictures)
    except PictureError:
        return "+".join(map(str, pictures))
