"""ChartQA: questions about charts, asked by people or made from their captions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.short_answers import relaxed_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask, identity, over_all
from autoprune_lab.tasks.fields import Given, UnfitError, each
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/test-*.parquet", "*test*.parquet", "*.parquet")
KINDS = {"human_test": "human", "augmented_test": "augmented"}


@dataclass(frozen=True)
class ChartQATask(Benchmark):
    """`lmms-lab/ChartQA`, the test half. The kinds are human and augmented.

    Source: arXiv 2203.10244; prompt as lmms-eval.
    """

    path: str = "lmms-lab/ChartQA"

    name = "chartqa"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""

        def make(given: Given) -> Iterator[Row]:
            kind = KINDS.get(given.text("type"))
            if kind is None:
                raise UnfitError(f"type that is none of {', '.join(KINDS)}")
            question, answers = ask(given.text("question")), given.answers("answer")
            yield Row(f"test-{given.order}", given.pictures, question, answers, kind, identity(given.pictures))

        needed = ("type", "question", "answer")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """Relaxed accuracy."""
        return relaxed_accuracy(prediction, sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Relaxed accuracy over all questions."""
        return over_all(rows, "relaxed accuracy")
