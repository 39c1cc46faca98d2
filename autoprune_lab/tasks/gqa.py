"""GQA: compositional questions about scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text is the answer, in lower case and without a final period, as LLaVA's conversion has it."""
        return float(prediction.strip().rstrip(".").lower() == sample.answers[0].lower())

    def _from_parquet(self, place: Path) -> Iterator[Row]:
        shown = {str(row["id"]): picture for row, picture in read_parquet(matching(place, SHOWN), ("id",))}
        needed = ("id", "imageId", "question", "answer", "types")
        for row, _ in read_parquet(matching(place, (*ASKED, QUESTIONS)), needed, image=None):
            image = str(row["imageId"])
            picture = shown.get(image, (FilePicture(place / f"picture {image}"),))
            yield Row(str(row["id"]), picture, ask(row["question"]), _answers(row), _kind(row), image)

    def _from_llava(self, file: Path) -> Iterator[Row]:
        images = existing(self.images, file.parent / "data" / "images", "images")
        usual = file.parent / "data" / "testdev_balanced_questions.json"
        known = read_json(existing(self.annotations, usual, "annotations"))
        for row in read_jsonl(file, ("question_id", "image", "text")):
            name, image = str(row["question_id"]), row["image"]
            note = known.get(name, {})
            picture = FilePicture(images / image)
            yield Row(name, (picture,), ask(row["text"]), _answers(note), _kind(note), Path(image).stem)


def _answers(note: dict) -> tuple[str, ...]:
    return (str(note["answer"]),) if note.get("answer") is not None else ()


def _kind(note: dict) -> str:
    return str((note.get("types") or {}).get("structural") or "gqa")
