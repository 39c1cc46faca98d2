"""SEED-Bench, image part: questions with four options about one picture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.options import LETTERS, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, Benchmark, ask, over_all
from autoprune_lab.tasks.choices import named
from autoprune_lab.tasks.fields import Given, UnfitError, each, options
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/test-*.parquet", "*test*.parquet", "*.parquet")
CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
ABILITIES = (
    "scene understanding", "instance identity", "instance attributes", "instance location", "instance counting",
    "spatial relations", "instance interaction", "visual reasoning", "text recognition",
)  # fmt: skip


@dataclass(frozen=True)
class SEEDBenchTask(Benchmark):
    """`lmms-lab/SEED-Bench`, the rows about pictures. The kinds are its nine abilities.

    Source: arXiv 2307.16125; prompt as lmms-eval.
    """

    path: str = "lmms-lab/SEED-Bench"

    name = "seedbench"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""

        def make(given: Given) -> Iterator[Row]:
            if given.text("data_type") == "video":
                return
            ability = given.number("question_type_id")
            if not 1 <= ability <= len(ABILITIES):
                raise UnfitError("question_type_id of no ability")
            lettered = options([given.values.get(name) for name in CHOICES], LETTERS)
            question = ask(f"{given.text('question')}\n{with_letters(lettered)}", LETTER)
            name, picture, kind = given.label("question_id"), given.label("data_id"), ABILITIES[ability - 1]
            yield Row(name, given.pictures, question, named(given, "answer", lettered), kind, picture)

        needed = ("question_id", "question", *CHOICES, "answer", "data_id", "data_type", "question_type_id")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text begins with the letter."""
        return float(prediction.strip()[:1] == sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy over all questions."""
        return over_all(rows)
