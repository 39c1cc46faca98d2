"""TextVQA: questions about words in the picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.vqa import vqa_accuracy
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import SHORT, Benchmark, ask
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

PARQUET = ("data/validation-*.parquet", "*validation*.parquet", "**/*validation*.parquet", "*.parquet")
QUESTIONS = "llava_textvqa_val_v051_ocr.jsonl"
OCR = "Reference OCR token: "


@dataclass(frozen=True)
class TextVQATask(Benchmark):
    """`lmms-lab/textvqa`, or LLaVA's folder: its question file, train_images/ and TextVQA_0.5.1_val.json.

    `ocr`: tell the model the words that an OCR system read, as LLaVA-1.5's prompt does. Source: arXiv 1904.08920.
    """

    path: str = "lmms-lab/textvqa"
    ocr: bool = True

    name = "textvqa"

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """VQA accuracy."""
        return vqa_accuracy(prediction, sample.answers)

    def _from_parquet(self, place: Path) -> Iterator[Row]:
        needed = ("question_id", "question", "image_id", "answers", *(["ocr_tokens"] if self.ocr else []))
        for row, picture in read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed):
            words = f"\n{OCR}{', '.join(row['ocr_tokens'] or ())}" if self.ocr else ""
            answers = tuple(row["answers"] or ())
            question = ask(row["question"].strip() + words)
            yield Row(str(row["question_id"]), picture, question, answers, self.name, str(row["image_id"]))

    def _from_llava(self, file: Path) -> Iterator[Row]:
        images = existing(self.images, file.parent / "train_images", "images")
        notes = read_json(existing(self.annotations, file.parent / "TextVQA_0.5.1_val.json", "annotations"))["data"]
        known = {(str(note["image_id"]), note["question"].strip().lower()): note for note in notes}
        for i, row in enumerate(read_jsonl(file, ("question_id", "image", "text"))):
            image, lines = str(row["question_id"]), row["text"].split("\n")
            plain = next(line for line in lines if not line.startswith(OCR))
            note = known.get((image, plain.strip().lower()), {})
            question = ask(row["text"] if self.ocr else f"{plain}\n{SHORT}")
            answers = tuple(note.get("answers") or ())
            name = str(note.get("question_id", f"{image}-{i}"))
            yield Row(name, (FilePicture(images / row["image"]),), question, answers, self.name, image)
