"""MMBench: questions with options, asked once for every rotation of the options."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autoprune_lab.metrics.options import TURN, circular_accuracy, option_letter, rotations, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, Benchmark, ask, identity
from autoprune_lab.tasks.fields import Given, UnfitError, each, is_empty, options
from autoprune_lab.tasks.pictures import Base64Picture
from autoprune_lab.tasks.reading import EXTRA, find_data, matching, read_parquet, read_table
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

FILES = {
    "en": ("en/dev-*.parquet", "mmbench_dev_2023*.tsv", "mmbench_dev_en*.tsv", "MMBench_DEV_EN*.tsv"),
    "cn": ("cn/dev-*.parquet", "mmbench_dev_cn*.tsv", "MMBench_DEV_CN*.tsv"),
}
LETTERS = "ABCD"
INDEX = re.compile("[0-9]{1,18}")
SUFFIXES = {"en": LETTER, "cn": "请直接回答选项字母。"}


@dataclass(frozen=True)
class MMBenchTask(Benchmark):
    """`lmms-lab/MMBench`, or the official table, mmbench_dev_*.tsv or MMBench_DEV_*.tsv; `language` is en or cn.

    `circular`: every rotation of the options is a sample of its own (files that have the rotations give theirs, for
    others they are made); else only the first. The kinds are the six abilities of level 2. Source: arXiv 2307.06281.
    """

    path: str = "lmms-lab/MMBench"
    language: str = "en"
    circular: bool = True

    name = "mmbench"

    def __post_init__(self) -> None:
        Benchmark.__post_init__(self)
        if self.language not in FILES:
            raise ValueError(f"task.language {self.language!r} is unknown; choose from {', '.join(FILES)}")

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        table = list(self._table())
        turned = any(_is_turned(given) for given in table)
        seen: set[int] = set()

        def make(given: Given) -> Iterator[Row]:
            index = _index(given)
            if EXTRA in given.values:
                raise UnfitError(EXTRA)
            if index in seen:
                raise UnfitError("an index that an earlier row has")
            seen.add(index)
            if index < TURN or self.circular:
                yield from self._asked(given, index, self.circular and not turned)

        yield from each(table, make, _question)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right, or the text is the right option's; MMBench asks GPT-4 where neither is clear."""
        letter, option = sample.answers
        given = option_letter(prediction)
        return float(given == letter if given else prediction.strip().rstrip(".").lower() == option.lower())

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Questions right in every rotation, and right in the first."""
        return circular_accuracy((int(row.id), row.score) for row in rows)

    def _table(self) -> Iterator[Given]:
        needed = ("index", "question", "hint", "A", "B", "answer")
        files = matching(find_data(self.path), FILES[self.language])
        if files[0].suffix == ".parquet":
            yield from read_parquet(files, needed)
            return
        rows = list(read_table(files[0], (*needed, "image")))
        content = {row.values["index"]: row.values["image"] for row in rows}
        for row in rows:  # a rotation may name the row that has its picture
            encoded = content.get(row.values["image"], row.values["image"])
            yield replace(row, pictures=(Base64Picture(encoded, f"{files[0]}, index {row.values['index']}"),))

    def _asked(self, given: Given, index: int, turn: bool) -> Iterator[Row]:
        """The question, with `turn` in all rotations of its options."""
        lettered = options([given.values.get(letter) for letter in LETTERS], LETTERS)
        answer = _answer(given, lettered)
        turns = rotations(lettered, answer) if turn and answer is not None else [(lettered, answer)]
        for k, (turned, letter) in enumerate(turns):
            yield self._row(given, index + k * TURN, turned, letter)

    def _row(self, given: Given, index: int, lettered: list[str | None], letter: str | None) -> Row:
        hint = "" if _is_none(given.values.get("hint")) else f"{given.text('hint')}\n"
        question = ask(f"{hint}{given.text('question')}\n{with_letters(lettered)}", SUFFIXES[self.language])
        option = lettered[LETTERS.index(letter)] if letter is not None else None
        answers = (letter, option) if letter is not None and option is not None else ()
        kind = given.label_of("L2-category", "l2-category", "category", default=self.name)
        return Row(str(index), given.pictures, question, answers, kind, identity(given.pictures), str(index % TURN))


def _index(given: Given) -> int:
    """The row's number, from 0; in a table it is text."""
    value = given.values.get("index")
    if isinstance(value, str) and INDEX.fullmatch(value):
        return int(value)
    if given.number("index") < 0:
        raise UnfitError("a number below 0 as index")
    return given.number("index")


def _question(given: Given) -> str:
    """The question that the row is a rotation of."""
    return str(_index(given) % TURN)


def _is_turned(given: Given) -> bool:
    try:
        return _index(given) >= TURN
    except UnfitError:
        return False


def _answer(given: Given, lettered: list[str | None]) -> str | None:
    """The letter of an option; None where there is none. Raises UnfitError where it names no option."""
    answer = given.values.get("answer")
    if _is_none(answer):
        return None
    if not isinstance(answer, str) or answer not in tuple(LETTERS) or lettered[LETTERS.index(answer)] is None:
        raise UnfitError("an answer that names no option")
    return answer


def _is_none(value: object) -> bool:
    """Is there no hint or answer? The tables write nan and none; among the options None is a word."""
    return is_empty(value) or str(value).strip().lower() in ("nan", "none")
