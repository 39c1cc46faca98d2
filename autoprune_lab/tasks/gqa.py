"""GQA: compositional questions about scenes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask
from autoprune_lab.tasks.fields import Given, UnfitError, by_key, each
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    question_file,
    read_json_notes,
    read_jsonl,
    read_parquet,
)
from autoprune_lab.tasks.selection import Row, UnfitRow

ASKED = ("testdev_balanced_instructions/*.parquet", "**/*instructions*/*.parquet", "*instructions*.parquet")
SHOWN = ("testdev_balanced_images/*.parquet", "**/*images*/*.parquet", "*images*.parquet")
QUESTIONS = "llava_gqa_testdev_balanced.jsonl"


@dataclass(frozen=True)
class GQATask(Benchmark):
    """`lmms-lab/GQA` (testdev balanced), or LLaVA's folder: its question file, data/images/ and
    data/testdev_balanced_questions.json.

    The kinds are GQA's structural types: verify, query, choose, logical, compare. Source: arXiv 1902.09506.
    """

    path: str = "lmms-lab/GQA"

    name = "gqa"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text is the answer, in lower case and without a final period, as LLaVA's conversion has it."""
        return float(prediction.strip().rstrip(".").lower() == sample.answers[0].lower())

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        shown = by_key(read_parquet(matching(place, SHOWN), ("id",)), lambda one: one.label("id"))
        needed = ("id", "imageId", "question", "answer", "types")

        def make(given: Given) -> Iterator[Row]:
            image = given.label("imageId")
            pictures = shown[image].pictures if image in shown else (FilePicture(place / f"picture {image}", place),)
            yield Row(given.label("id"), pictures, ask(given.text("question")), *_known(given), image)

        yield from each(read_parquet(matching(place, (*ASKED, QUESTIONS)), needed, image=None), make)

    def _from_llava(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "data" / "images", "images")
        usual = file.parent / "data" / "testdev_balanced_questions.json"
        known = read_json_notes(existing(self.annotations, usual, "annotations"))

        def make(given: Given) -> Iterator[Row]:
            name, image = given.label("question_id"), given.text("image")
            picture, note = self.picture(images, image), known.get(name)
            yield Row(name, (picture,), ask(given.text("text")), *_known(note), Path(image).stem)

        yield from each(read_jsonl(file), make)


def _known(note: Given | None) -> tuple[tuple[str, ...], str]:
    """Answers and kind."""
    if note is None:
        return (), "gqa"
    types = note.values.get("types")
    if not isinstance(types, dict | None):
        raise UnfitError("types that are no object")
    return note.answers("answer"), replace(note, values=types or {}).label_of("structural", default="gqa")
