"""VizWiz: questions of blind people about photographs they took; many cannot be answered."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune_lab.metrics.vqa import vqa_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import SHORT, Benchmark, ask
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    one_of,
    question_file,
    read_json,
    read_jsonl,
    read_parquet,
)
from autoprune_lab.tasks.selection import Row

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

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_files(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """VQA accuracy."""
        return vqa_accuracy(prediction, sample.answers)

    def _from_parquet(self, place: Path) -> Iterator[Row]:
        needed = ("question_id", "question", "answers")
        for row, picture in read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed):
            name = str(row["question_id"])
            answers = tuple(row["answers"] or ())
            yield Row(
                name, picture, ask(row["question"], MAY_DECLINE), answers, str(row.get("category") or self.name), name
            )

    def _from_files(self, file: Path) -> Iterator[Row]:
        images = existing(self.images, file.parent / "val", "images")
        notes = read_json(existing(self.annotations, file.parent / QUESTIONS, "annotations"))
        known = {note["image"]: note for note in notes}
        asked = read_jsonl(file, ("image", "text")) if file.suffix == ".jsonl" else iter(notes)
        for row in asked:
            image = row["image"]
            note, picture = known.get(image, {}), FilePicture(images / image)
            question = ask(one_of(row, "text", "question"), MAY_DECLINE)
            kind = str(note.get("answer_type") or self.name)
            yield Row(Path(image).stem, (picture,), question, _answers(note), kind, image)


def _answers(note: dict[str, Any]) -> tuple[str, ...]:
    return tuple(given["answer"] for given in note.get("answers") or ())
