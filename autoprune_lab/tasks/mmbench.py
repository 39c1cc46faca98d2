"""MMBench: questions with options, asked once for every rotation of the options."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoprune_lab.metrics.options import TURN, circular_accuracy, option_letter, rotations, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, Benchmark, ask, identity
from autoprune_lab.tasks.pictures import BytesPicture, Picture
from autoprune_lab.tasks.reading import find_data, matching, read_parquet, read_table
from autoprune_lab.tasks.selection import Row

if TYPE_CHECKING:
    from autoprune_lab.records import Record

FILES = {
    "en": ("en/dev-*.parquet", "mmbench_dev_2023*.tsv", "mmbench_dev_en*.tsv", "MMBench_DEV_EN*.tsv"),
    "cn": ("cn/dev-*.parquet", "mmbench_dev_cn*.tsv", "MMBench_DEV_CN*.tsv"),
}
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

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        table = list(self._table())
        turned = any(int(row["index"]) >= TURN for row, _ in table)
        for row, pictures in table:
            for index, options, answer in _asked(row, self.circular and not turned):
                if index < TURN or self.circular:
                    yield self._row(row, pictures, index, options, answer)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right, or the text is the right option's; MMBench asks GPT-4 where neither is clear."""
        letter, option = sample.answers
        given = option_letter(prediction)
        return float(given == letter if given else prediction.strip().rstrip(".").lower() == option.lower())

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Questions right in every rotation, and right in the first."""
        return circular_accuracy((int(row.id), row.score) for row in rows)

    def _table(self) -> Iterator[tuple[dict[str, Any], tuple[Picture, ...]]]:
        needed = ("index", "question", "hint", "A", "B", "answer")
        files = matching(find_data(self.path), FILES[self.language])
        if files[0].suffix == ".parquet":
            yield from read_parquet(files, needed)
            return
        rows = list(read_table(files[0], (*needed, "image")))
        content = {row["index"]: row["image"] for row in rows}
        for row in rows:  # a rotation may name the row that has its picture
            encoded = content.get(row["image"], row["image"])
            yield row, (BytesPicture(b64decode(encoded), f"{files[0]}, index {row['index']}"),)

    def _row(
        self, row: dict[str, Any], pictures: tuple[Picture, ...], index: int, options: list[str], answer: str | None
    ) -> Row:
        hint = f"{row['hint']}\n" if _given(row["hint"]) else ""
        question = ask(f"{hint}{row['question']}\n{with_letters(options)}", SUFFIXES[self.language])
        answers = (answer, options["ABCD".index(answer)]) if answer else ()
        kind = str(row.get("L2-category") or row.get("l2-category") or row.get("category") or self.name)
        return Row(str(index), pictures, question, answers, kind, identity(pictures), str(index % TURN))


def _asked(row: dict[str, Any], turn: bool) -> Iterator[tuple[int, list[str], str | None]]:
    """The question's (index, options, letter of the answer), with `turn` in all rotations."""
    index, options = int(row["index"]), []
    for letter in "ABCD":
        if not _given(row.get(letter)):
            break
        options.append(str(row[letter]))
    answer = str(row["answer"]) if _given(row["answer"]) else None
    if answer is None or not turn:
        yield index, options, answer
        return
    for k, (turned, letter) in enumerate(rotations(options, answer)):
        yield index + k * TURN, turned, letter


def _given(value: object) -> bool:
    """Is there a value? The tables write nan and none."""
    return value is not None and str(value).strip().lower() not in ("", "nan", "none")
