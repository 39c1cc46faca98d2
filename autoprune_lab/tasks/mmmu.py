"""MMMU: college questions in thirty subjects, with options or open, about one picture or several."""

import re
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.mmmu import chosen_letter, open_is_right
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, SHORT, Benchmark, identity, over_all
from autoprune_lab.tasks.fields import Given, UnfitError, each, text
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/validation-*.parquet", "*/validation-*.parquet", "validation-*.parquet", "*.parquet")
PICTURES = tuple(f"image_{i}" for i in range(1, 8))
NAMED = re.compile(r"<image ([1-7])>")
ID = re.compile(r"[^_]+_(.+)_\d+")
LETTERS = "ABCDEFGHIJKLMNOP"
CHOICE, OPEN = "multiple-choice", "open"
SUBJECTS = {
    "art and design": ("Art", "Art_Theory", "Design", "Music"),
    "business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "health and medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health",
    ),
    "humanities and social science": ("History", "Literature", "Sociology", "Psychology"),
    "tech and engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip
KINDS = {subject: kind for kind, subjects in SUBJECTS.items() for subject in subjects}


@dataclass(frozen=True)
class MMMUTask(Benchmark):
    """`lmms-lab/MMMU`, or `MMMU/MMMU` with its folder for each subject: validation. The kinds are the six disciplines.

    The pictures that question and options name, <image 2>, are shown before them, in the order of their numbers. The
    answers of a sample are the right letter and all options after it, or what an open question may be answered with.

    Source: arXiv 2311.16502; prompt as lmms-eval. Differs: of several open answers any is right, as in MMMU's own code;
    lmms-eval takes their list for one answer.
    """

    path: str = "lmms-lab/MMMU"

    name = "mmmu"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        needed = ("id", "question", "options", "answer", "question_type")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed, PICTURES), _asked)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter, or what an open answer comes down to, is right."""
        if not sample.question.endswith(LETTER):
            return float(open_is_right(prediction, sample.answers))
        right, *lettered = sample.answers
        return float(chosen_letter(prediction, dict(zip(LETTERS, lettered, strict=False))) == right)

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy over all questions."""
        return over_all(rows)


def _asked(given: Given) -> Iterator[Row]:
    name, question, form = given.label("id"), given.text("question"), given.text("question_type")
    found = ID.fullmatch(name)
    kind = KINDS.get(found.group(1)) if found else None
    if kind is None:
        raise UnfitError("id of no subject")
    if form == CHOICE:
        lettered = _listed(given.text("options"), "options")
        answers = _right(given.answers("answer"), lettered)
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, lettered, strict=False))
        question = f"{question}\n{lines}\n\n{LETTER}"
    elif form == OPEN:
        answers = _open(given.answers("answer"))
        question = f"{question}\n\n{SHORT}"
    else:
        raise UnfitError(f"question_type that is neither {CHOICE} nor {OPEN}")
    pictures = tuple(given.pictures[int(number) - 1] for number in sorted({*NAMED.findall(question)}))
    if not pictures:
        raise UnfitError("no <image 1> in its text")
    yield Row(name, pictures, question, answers, kind, identity(pictures))


def _listed(written: str, name: str) -> list[str]:
    """The list of texts that stands there as Python writes it; read, never run. Raises UnfitError."""
    try:
        items = literal_eval(written)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        items = None
    if not isinstance(items, list) or not items or len(items) > len(LETTERS):
        raise UnfitError(f"{name} that are no list")
    return [text(item, name) for item in items]


def _right(answers: tuple[str, ...], lettered: list[str]) -> tuple[str, ...]:
    """The right letter and the options; none where there is no answer."""
    if not answers:
        return ()
    (letter,) = answers if len(answers) == 1 else ("",)
    if letter not in tuple(LETTERS[: len(lettered)]):
        raise UnfitError("an answer that names no option")
    return (letter, *lettered)


def _open(answers: tuple[str, ...]) -> tuple[str, ...]:
    """The answers; of one that is written as a list its items."""
    if len(answers) == 1 and answers[0].startswith("["):
        try:
            return tuple(_listed(answers[0], "answers"))
        except UnfitError:
            return answers
    return answers
