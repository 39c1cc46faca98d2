"""HallusionBench: yes/no questions about figures, and about the same figures changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.yes_no import hallusion_answer, hallusion_figures
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.fields import Given, UnfitError, each, is_empty
from autoprune_lab.tasks.reading import find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/image-*.parquet", "image-*.parquet", "*.parquet")
ASKED = "Please answer yes or no."
ANSWERS = {"0": "no", "1": "yes"}


@dataclass(frozen=True)
class HallusionBenchTask(Benchmark):
    """`lmms-lab/HallusionBench`, the questions with a figure. The kinds are category and subcategory: VD chart, ...

    A set of questions, with all of its figures, stays together: fAcc and qAcc look at it as a whole.

    Source: arXiv 2310.14566. Differs: answers are read as yes or no and asked for as such, as VLMEvalKit does; GPT-4,
    which the official script asks about free text, is not.
    """

    path: str = "lmms-lab/HallusionBench"

    name = "hallusionbench"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""

        def make(given: Given) -> Iterator[Row]:
            whole, question = _set(given), f"{given.text('question').strip()} {ASKED}"
            name = f"{whole}_{given.label('figure_id')}_{given.label('question_id')}"
            kind = f"{given.label('category')} {given.label('subcategory')}"
            yield Row(name, given.pictures, question, _answer(given), kind, whole, whole)

        needed = ("category", "subcategory", "set_id", "figure_id", "question_id", "question", "gt_answer")
        yield from each(read_parquet(matching(find_data(self.path), PARQUET), needed), make, _set)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when yes or no is right."""
        return float(hallusion_answer(prediction) == sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """aAcc, fAcc and qAcc: right answers, figures and questions."""
        keys = [row.id.rsplit("_", 2) for row in rows]
        return hallusion_figures(
            [
                (f"{whole}_{figure}", f"{whole}_{question}", row.score)
                for (whole, figure, question), row in zip(keys, rows, strict=True)
            ]
        )


def _set(given: Given) -> str:
    """The questions and figures that belong together."""
    return "_".join(given.label(name) for name in ("category", "subcategory", "set_id"))


def _answer(given: Given) -> tuple[str, ...]:
    if is_empty(given.values.get("gt_answer")):
        return ()
    answer = ANSWERS.get(given.label("gt_answer").strip())
    if answer is None:
        raise UnfitError("gt_answer that is neither 0 nor 1")
    return (answer,)
