"""What every benchmark on disk shares: choosing rows, checking pictures, telling what was left out."""

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune_lab.tasks.base import Sample, Task, TaskError, check_choice
from autoprune_lab.tasks.pictures import (
    Album,
    FilePicture,
    MissingPictureError,
    OutsidePictureError,
    Picture,
    PictureError,
)
from autoprune_lab.tasks.selection import SPLITS, Row, UnfitRow, Where, choose
from autoprune_lab.tasks.videos import Footage, MissingVideoError, VideoError

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
UNANSWERED = "without an answer"
MOST_TOLD = 3  # rows named for one reason; the others are counted


@dataclass(frozen=True)
class Benchmark(Task):
    """`path`: a dataset of the hub in the local cache, a folder, or a file. A subclass says how its rows are read.

    `images`, `annotations`: where they are when not in their usual place beside the questions. `split`: tune or report,
    two halves that share no picture, or all. `per_kind`: at most so many samples of a kind; None: all.
    `images_outside`: pictures may lie outside the folder of pictures (absolute paths, "..", links that lead out).
    """

    path: str
    images: str | None = None
    annotations: str | None = None
    split: str = "tune"
    per_kind: int | None = 50
    images_outside: bool = False

    max_new_tokens = 16

    def __post_init__(self) -> None:
        check_choice(self.split, SPLITS, self.per_kind, may_be_all=True)

    @abstractmethod
    def rows(self) -> Iterable[Row | UnfitRow]:
        """Every row of the files, those without answers and those that do not fit (`fields.each`) too.

        Raises TaskError.
        """

    def samples(self) -> tuple[Sample, ...]:
        """Kind by kind, each in the files' order; no two have one id. Raises TaskError when nothing is left."""
        return _selected(self).samples

    def notes(self) -> Sequence[str]:
        """How many rows were left out, why, and where the first of them are; which ids were changed."""
        return _selected(self).notes

    def n_unfit(self) -> int:
        """How many rows of the files cannot be asked or scored."""
        return _selected(self).n_unfit

    def footages(self) -> Sequence[Footage]:
        """The videos of all rows, also of those that were not chosen."""
        return _selected(self).footages

    def picture(self, folder: Path, name: str) -> FilePicture:
        """The picture of that name in the folder."""
        return FilePicture(folder / name, None if self.images_outside else folder)


@dataclass(frozen=True)
class _Selected:
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    n_unfit: int
    footages: tuple[Footage, ...]


@cache
def _selected(task: Benchmark) -> _Selected:
    given = list(task.rows())
    unfit = [row for row in given if isinstance(row, UnfitRow)]
    rows, renamed = _with_ids_of_their_own([row for row in given if isinstance(row, Row)])
    unanswered = [row for row in rows if not row.answers]
    gone = {row.group for row in unfit} | {row.group for row in unanswered}
    gone.discard("")  # of rows that stand alone
    answered = [row for row in rows if row.answers]
    fitting = [row for row in answered if row.group not in gone]
    reasons = _reasons(unanswered, unfit)
    if not fitting:
        raise TaskError(f"{task.path}: {_why_none(len(given), reasons)}")
    chosen = choose(fitting, task.split, task.per_kind)
    broken = _broken(chosen)
    lost = {row.group or row.id for row in chosen if row.id in broken}
    samples = [
        Sample(
            row.id,
            Album(row.pictures),
            row.question,
            row.answers,
            row.kind,
            tuple(one.video() for one in row.videos),
            row.state,
        )
        for row in sorted(chosen, key=lambda row: row.kind)
        if (row.group or row.id) not in lost
    ]
    if not samples:
        why = next(iter(broken.values())) if broken else f"no picture falls into its {task.split!r} half"
        raise TaskError(f"{task.path}: no sample is left; {why}")
    n_along = len(answered) - len(fitting) + len(chosen) - len(samples) - len(broken)
    account = _account(reasons, broken, n_along)
    notes = [f"task {task.name}, {task.split}: {words}" for words in (account, _told_ids(renamed)) if words]
    footages = tuple(one for row in rows for one in row.videos)
    return _Selected(tuple(samples), tuple(notes), len(unfit), footages)


def _with_ids_of_their_own(rows: Sequence[Row]) -> tuple[list[Row], dict[str, Row]]:
    """The rows, each id once, and those that got another one, by the id that they had.

    It depends on the files alone, so that what was answered at two times can be paired.
    """
    taken = {row.id for row in rows}
    seen: Counter[str] = Counter()
    made, renamed = [], dict[str, Row]()
    for row in rows:
        seen[row.id] += 1
        if seen[row.id] == 1:
            made.append(row)
            continue
        name = next(name for k in count(seen[row.id]) if (name := f"{row.id}#{k}") not in taken)
        taken.add(name)
        made.append(replace(row, id=name))
        renamed.setdefault(row.id, made[-1])
    return made, renamed


def _broken(rows: Sequence[Row]) -> dict[str, PictureError]:
    """By row id, what is wrong with its picture or video."""
    known: dict[Picture | Footage, PictureError | None] = {}
    shown: dict[str, tuple[Picture | Footage, ...]] = {row.id: (*row.pictures, *row.videos) for row in rows}
    for picture in dict.fromkeys(one for several in shown.values() for one in several):
        try:
            picture.check()
            known[picture] = None
        except PictureError as error:
            known[picture] = error
    found = {name: next((known[p] for p in several if known[p] is not None), None) for name, several in shown.items()}
    return {name: error for name, error in found.items() if error is not None}


def _reasons(unanswered: Sequence[Row], unfit: Sequence[UnfitRow]) -> dict[str, list[Where | None]]:
    """Where the rows of each reason are."""
    found: dict[str, list[Where | None]] = defaultdict(list)
    if unanswered:
        found[UNANSWERED] = [row.where for row in unanswered]
    for row in unfit:
        found[row.reason].append(row.where)
    return dict(found)


def _account(reasons: dict[str, list[Where | None]], broken: dict[str, PictureError], n_along: int) -> str:
    """What was left out, counted, and the first of each."""
    kinds = Counter(_kind(error) for error in broken.values())
    unanswered = reasons.get(UNANSWERED, [])
    parts = [f"{len(unanswered)} rows {UNANSWERED}"] if unanswered else []
    parts += [f"{n} with {kind}" for kind, n in sorted(kinds.items())]
    parts += [f"{n_along} that belong to these"] if n_along else []
    parts += _misfits(reasons)
    examples = [f"; {UNANSWERED}: {_listed(unanswered)}"] if any(unanswered) else []
    examples += [f"; the first: {next(iter(broken.values()))}"] if broken else []
    return f"left out {', '.join(parts)}{''.join(examples)}" if parts else ""


def _misfits(reasons: dict[str, list[Where | None]]) -> list[str]:
    """N with REASON (FILE, row 1; ...), the most frequent first."""
    misfits = [(reason, places) for reason, places in reasons.items() if reason != UNANSWERED]
    misfits.sort(key=lambda misfit: -len(misfit[1]))
    return [f"{len(places)} with {reason} ({_listed(places)})" for reason, places in misfits]


def _listed(places: Sequence[Where | None]) -> str:
    """The first places, as FILE, row 1, 7, and how many more there are."""
    known = [place for place in places if place is not None]
    more = f" and {len(known) - MOST_TOLD} more" if len(known) > MOST_TOLD else ""
    by_file = groupby(known[:MOST_TOLD], key=lambda place: f"{place.file}, {place.unit}")
    return "; ".join(f"{file} {', '.join(str(place.number) for place in few)}" for file, few in by_file) + more


def _why_none(n_rows: int, reasons: dict[str, list[Where | None]]) -> str:
    """Why no row can be used."""
    misfits, n_unanswered = _misfits(reasons), len(reasons.get(UNANSWERED, []))
    if n_rows and not misfits:
        return f"none of its {n_rows} rows has an answer; the public test halves have none"
    unanswered = [f"{n_unanswered} {UNANSWERED}"] if n_unanswered else []
    return f"no row can be used: {', '.join([*misfits, *unanswered]) or 'there is none'}"


def _told_ids(renamed: dict[str, Row]) -> str:
    """That ids were changed, and of the first of them how and where."""
    if not renamed:
        return ""
    old, row = next(iter(renamed.items()))
    place = f" ({row.where})" if row.where is not None else ""
    return f"{len(renamed)} ids stand there more than once; later rows got a number: {old!r} became {row.id!r}{place}"


def _kind(error: PictureError) -> str:
    kinds = {
        MissingPictureError: "a missing picture",
        OutsidePictureError: "a picture outside the folder",
        MissingVideoError: "a missing video",
        VideoError: "a broken video",
    }
    return kinds.get(type(error), "a broken picture")


def ask(question: str, suffix: str = SHORT) -> str:
    """The question with the benchmark's instruction on a line of its own, if it is not already there."""
    return question if question.rstrip().endswith(suffix) else f"{question.strip()}\n{suffix}"


def over_all(rows: "Sequence[Record]", name: str = "accuracy") -> dict[str, float]:
    """The mean score of all samples, where a benchmark reports that: kinds are of unlike sizes."""
    return {name: sum(row.score for row in rows) / len(rows)}


def identity(pictures: Sequence[Picture]) -> str:
    """An image id from the pictures' content, or from their place where they cannot be read."""
    try:
        return "+".join(picture.digest() for picture in pictures)
    except PictureError:
        return "+".join(map(str, pictures))
