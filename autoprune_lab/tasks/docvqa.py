"""DocVQA: questions about scanned pages."""

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune_lab.metrics.short_answers import anls
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

PARQUET = ("DocVQA/validation-*.parquet", "validation-*.parquet", "*.parquet")


@dataclass(frozen=True)
class DocVQATask(Benchmark):
    """`lmms-lab/DocVQA`, validation; the test half has no public answers. One kind; halves go by the document.

    Source: arXiv 2007.00398; prompt and length of answers as lmms-eval.
    """

    path: str = "lmms-lab/DocVQA"

    name = "docvqa"
    max_new_tokens = 128

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""

        def make(given: Given) -> Iterator[Row]:
            name, document = given.label("questionId"), given.label("ucsf_document_id")
            yield Row(name, given.pictures, ask(given.text("question")), given.answers(), self.name, document)

        needed = ("questionId", "question", "ucsf_document_id", "answers")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """Average Normalised Levenshtein Similarity, of the nearest answer."""
        return anls(prediction, sample.answers)
