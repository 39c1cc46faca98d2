"""VizWiz: questions of blind people about photographs they took; many cannot be answered."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.vqa import vqa_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import SHORT, Benchmark, ask
from autoprune_lab.tasks.fields import Given, by_key, each
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    question_file,
    read_json_rows,
    read_jsonl,
    read_parquet,
)
from autoprune_lab.tasks.selection import Row, UnfitRow

PARQUET = ("data/val-*.parquet", "*val*.parquet", "**/*val*.parquet", "*.parquet")
QUESTIONS = "val.json"
MAY_DECLINE = f"When the provided information is insufficient, respond with 'Unanswerable'.\n{SHORT}"


@dataclass(frozen=True)
class VizWizTask(Benchmark):
    """`lmms-lab/VizWiz-VQA` (val), the official val.json and val/, or a question file of LLaVA's kind with val.json.

    The test half has no public answers. The kinds are VizWiz's answer types, unanswerable among them; there the
    answer to give is "unanswerable". Source: arXiv 1802.08218; prompt as LLaVA-1.5.
    """

    path: str = "lmms-lab/VizWiz-VQA"

    name = "vizwiz"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_files(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """VQA accuracy."""
        return vqa_accuracy(prediction, sample.answers)

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        def make(given: Given) -> Iterator[Row]:
            name, question = given.label("question_id"), ask(given.text("question"), MAY_DECLINE)
            kind = given.label_of("category", default=self.name)
            yield Row(name, given.pictures, question, given.answers(), kind, name)

        needed = ("question_id", "question", "answers")
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make)

    def _from_files(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "val", "images")
        notes = list(read_json_rows(existing(self.annotations, file.parent / QUESTIONS, "annotations")))
        known = by_key(notes, lambda note: note.text("image"))
        is_llavas = file.suffix == ".jsonl"

        def make(given: Given) -> Iterator[Row]:
            image, note = given.text("image"), known.get(given.text("image"))
            question = ask(given.text("text" if is_llavas else "question"), MAY_DECLINE)
            answers, kind = tuple[str, ...](), self.name
            if note is not None:
                answers, kind = note.answers(), note.label_of("answer_type", default=self.name)
            yield Row(Path(image).stem, (self.picture(images, image),), question, answers, kind, image)

        yield from each(read_jsonl(file) if is_llavas else notes, make)
