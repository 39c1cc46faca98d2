"""VQAv2: questions about COCO pictures, ten answers each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune_lab.metrics.vqa import vqa_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    question_file,
    read_json,
    read_jsonl,
    read_parquet,
)
from autoprune_lab.tasks.selection import Row

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

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_files(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """VQA accuracy."""
        return vqa_accuracy(prediction, sample.answers)

    def _from_parquet(self, place: Path) -> Iterator[Row]:
        needed = ("question_id", "question", "answers", "answer_type", "image_id")
        for row, picture in read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed):
            name, image = str(row["question_id"]), str(row["image_id"])
            yield Row(name, picture, ask(row["question"]), _answers(row), str(row["answer_type"]), image)

    def _from_files(self, file: Path) -> Iterator[Row]:
        images = existing(self.images, file.parent / "val2014", "images")
        notes = read_json(existing(self.annotations, file.parent / ANSWERS, "annotations"))["annotations"]
        known = {str(note["question_id"]): note for note in notes}
        for name, question, image in _asked(file):
            note = known.get(name, {})
            picture, kind = FilePicture(images / image), str(note.get("answer_type") or self.name)
            yield Row(name, (picture,), ask(question), _answers(note), kind, image)


def _asked(file: Path) -> Iterator[tuple[str, str, str]]:
    """(question id, question, name of the picture) of VQA's own question file, or of one of LLaVA's kind."""
    if file.suffix == ".jsonl":
        for row in read_jsonl(file, ("question_id", "image", "text")):
            yield str(row["question_id"]), row["text"], row["image"]
        return
    for row in read_json(file)["questions"]:
        yield str(row["question_id"]), row["question"], f"COCO_val2014_{row['image_id']:012d}.jpg"


def _answers(note: dict[str, Any]) -> tuple[str, ...]:
    return tuple(given["answer"] for given in note.get("answers") or ())
