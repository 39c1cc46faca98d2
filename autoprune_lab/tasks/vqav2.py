"""VQAv2: questions about COCO pictures, ten answers each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.vqa import vqa_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask
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

PARQUET = ("data/validation-*.parquet", "*validation*.parquet", "**/*val*.parquet", "*.parquet")
QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANSWERS = "v2_mscoco_val2014_annotations.json"


@dataclass(frozen=True)
class VQAv2Task(Benchmark):
    """`lmms-lab/VQAv2` (validation), the official val2014 files and val2014/, or a question file of LLaVA's kind.

    The test halves have no public answers. The kinds are VQA's answer types. Source: arXiv 1612.00837.
    """

    path: str = "lmms-lab/VQAv2"

    name = "vqav2"

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
            name, kind, image = given.label("question_id"), given.label("answer_type"), given.label("image_id")
            yield Row(name, given.pictures, ask(given.text("question")), given.answers(), kind, image)

        needed = ("question_id", "question", "answers", "answer_type", "image_id")
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make)

    def _from_files(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "val2014", "images")
        notes = read_json_rows(existing(self.annotations, file.parent / ANSWERS, "annotations"), "annotations")
        known = by_key(notes, lambda note: note.label("question_id"))
        is_llavas = file.suffix == ".jsonl"

        def make(given: Given) -> Iterator[Row]:
            name, note = given.label("question_id"), known.get(given.label("question_id"))
            question = ask(given.text("text" if is_llavas else "question"))
            image = given.text("image") if is_llavas else f"COCO_val2014_{given.number('image_id'):012d}.jpg"
            answers, kind = tuple[str, ...](), self.name
            if note is not None:
                answers, kind = note.answers(), note.label_of("answer_type", default=self.name)
            yield Row(name, (self.picture(images, image),), question, answers, kind, image)

        yield from each(read_jsonl(file) if is_llavas else read_json_rows(file, "questions"), make)
