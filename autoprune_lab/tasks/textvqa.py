"""TextVQA: questions about words in the picture."""

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

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """VQA accuracy."""
        return vqa_accuracy(prediction, sample.answers)

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        def make(given: Given) -> Iterator[Row]:
            words = f"\n{OCR}{', '.join(given.texts('ocr_tokens'))}" if self.ocr else ""
            name, image = given.label("question_id"), given.label("image_id")
            question = ask(given.text("question").strip() + words)
            yield Row(name, given.pictures, question, given.answers(), self.name, image)

        needed = ("question_id", "question", "image_id", "answers", *(["ocr_tokens"] if self.ocr else []))
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make)

    def _from_llava(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "train_images", "images")
        notes = read_json_rows(
            existing(self.annotations, file.parent / "TextVQA_0.5.1_val.json", "annotations"), "data"
        )
        known = by_key(notes, lambda note: (note.label("image_id"), note.text("question").strip().lower()))

        def make(given: Given) -> Iterator[Row]:
            image, asked = given.label("question_id"), given.text("text")
            plain = next((line for line in asked.split("\n") if not line.startswith(OCR)), "")
            note = known.get((image, plain.strip().lower()))
            question = ask(asked if self.ocr else f"{plain}\n{SHORT}")
            answers, name = tuple[str, ...](), f"{image}-{given.order}"
            if note is not None:
                answers, name = note.answers(), note.label_of("question_id", default=name)
            yield Row(name, (self.picture(images, given.text("image")),), question, answers, self.name, image)

        yield from each(read_jsonl(file), make)
