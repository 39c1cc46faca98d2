"""POPE: is this object in the picture? Three ways of choosing absent objects: random, popular, adversarial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune_lab.metrics.yes_no import Confusion, pope_answer
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark, ask
from autoprune_lab.tasks.fields import Given, by_key, each
from autoprune_lab.tasks.reading import existing, find_data, matching, question_file, read_jsonl, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/test-*.parquet", "Full/*.parquet", "*.parquet", "**/*.parquet")
QUESTIONS = "llava_pope_test.jsonl"


@dataclass(frozen=True)
class PopeTask(Benchmark):
    """`lmms-lab/POPE`, or LLaVA's folder: llava_pope_test.jsonl, val2014/ and coco/coco_pope_*.json.

    The kinds are POPE's three splits. Source: arXiv 2305.10355; prompt and reading of answers as LLaVA-1.5.
    """

    path: str = "lmms-lab/POPE"

    name = "pope"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when yes or no is right."""
        return float(pope_answer(prediction.strip()) in sample.answers)

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy, precision, recall, F1 and yes ratio of each split, and the mean F1."""
        kinds = sorted({row.kind for row in rows})
        found = {
            kind: Confusion.of((pope_answer(r.prediction), r.answers[0]) for r in rows if r.kind == kind).figures()
            for kind in kinds
        }
        figures = {f"{kind}: {name}": value for kind in kinds for name, value in found[kind].items()}
        return {"mean F1": sum(found[kind]["F1"] for kind in kinds) / len(kinds)} | figures

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        def make(given: Given) -> Iterator[Row]:
            kind, name = given.label("category"), given.label("question_id")
            question, image = ask(given.text("question")), given.label("image_source")
            yield Row(f"{kind}-{name}", given.pictures, question, given.yes_no("answer"), kind, image)

        needed = ("question_id", "question", "answer", "image_source", "category")
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make)

    def _from_llava(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "val2014", "images")
        labels = _labels(existing(self.annotations, file.parent / "coco", "annotations"))

        def make(given: Given) -> Iterator[Row]:
            kind, image, asked = given.label("category"), given.text("image"), given.text("text")
            label = labels.get((kind, image, asked.split("\n")[0].strip()))
            answers = label.yes_no("label") if label is not None else ()
            yield Row(f"{kind}-{given.order}", (self.picture(images, image),), ask(asked), answers, kind, image)

        yield from each(read_jsonl(file), make)


def _labels(folder: Path) -> dict[tuple[str, str, str], Given]:
    """By category, image and question. LLaVA's own script goes by the order of the lines."""
    files = sorted(folder.glob("coco_pope_*.json"))
    if not files:
        raise TaskError(f"{folder} has no coco_pope_*.json; say where they are with task.annotations=FOLDER")
    known: dict[tuple[str, str, str], Given] = {}
    for file in files:
        kind = file.stem.removeprefix("coco_pope_")
        for (image, question), label in by_key(
            read_jsonl(file), lambda one: (one.text("image"), one.text("text").strip())
        ).items():
            known[kind, image, question] = label
    return known
