"""OCRBench: text in pictures, read, asked about, extracted; and handwritten formulas."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.short_answers import contains_answer
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, identity, over_all
from autoprune_lab.tasks.fields import Given, UnfitError, each
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/test-*.parquet", "*test*.parquet", "*.parquet")
READ, FORMULA = "text recognition", "formula recognition"
GROUPS = {
    "Regular Text Recognition": READ, "Irregular Text Recognition": READ, "Artistic Text Recognition": READ,
    "Handwriting Recognition": READ, "Digit String Recognition": READ, "Non-Semantic Text Recognition": READ,
    "Scene Text-centric VQA": "scene text VQA", "Doc-oriented VQA": "document VQA",
    "Key Information Extraction": "information extraction",
    "Handwritten Mathematical Expression Recognition": FORMULA,
}  # fmt: skip


@dataclass(frozen=True)
class OCRBenchTask(Benchmark):
    """`echo840/OCRBench`. The kinds are its five groups; the question is asked as it stands.

    Source: arXiv 2305.07895; length of answers as lmms-eval.
    """

    path: str = "echo840/OCRBench"

    name = "ocrbench"
    max_new_tokens = 128

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""

        def make(given: Given) -> Iterator[Row]:
            kind = GROUPS.get(given.text("question_type"))
            if kind is None:
                raise UnfitError("question_type of no group")
            question, answers = given.text("question").strip(), given.answers("answer")
            yield Row(f"test-{given.order}", given.pictures, question, answers, kind, identity(given.pictures))

        needed = ("question_type", "question", "answer")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when an answer stands in the text; of formulas without their spaces."""
        return contains_answer(prediction, sample.answers, formula=sample.kind == FORMULA)

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """The final score as a share: published ones count the right of 1000."""
        return over_all(rows, "final score")
