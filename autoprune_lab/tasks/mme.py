"""MME: two yes/no questions about each picture, in fourteen categories."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune_lab.metrics.yes_no import mme_answer, mme_scores
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import Benchmark, ask
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    question_file,
    read_jsonl,
    read_parquet,
    read_text,
)
from autoprune_lab.tasks.selection import Row, UnfitRow, Where

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("data/test-*.parquet", "*.parquet", "**/*.parquet")
QUESTIONS = "llava_mme.jsonl"
ASKED = "Please answer yes or no."


@dataclass(frozen=True)
class MMETask(Benchmark):
    """`lmms-lab/MME`, or LLaVA's folder: llava_mme.jsonl and MME_Benchmark_release_version/ with its answers.

    The kinds are the categories; both questions of a picture stay together, and so do files of one name, for some
    categories show the same COCO pictures. Prompt as LLaVA-1.5.
    Source: arXiv 2306.13394.
    """

    path: str = "lmms-lab/MME"

    name = "mme"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when yes or no is right."""
        return float(mme_answer(prediction) == sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy + accuracy+ of each category, and their sums over perception and cognition."""
        return mme_scores([(row.kind, row.id.rpartition("#")[0], row.score) for row in rows])

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        seen: Counter[str] = Counter()

        def make(given: Given) -> Iterator[Row]:
            image = _image(given)
            seen[image] += 1
            name, kind, question = (
                f"{image}#{seen[image]}",
                given.label("category"),
                ask(_plain(given.text("question"))),
            )
            yield Row(name, given.pictures, question, given.yes_no("answer"), kind, Path(image).name, image)

        needed = ("question_id", "question", "answer", "category")
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make, _image)

    def _from_llava(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "MME_Benchmark_release_version", "images")
        known = _texts(existing(self.annotations, images, "annotations"))
        seen: Counter[str] = Counter()

        def make(given: Given) -> Iterator[Row]:
            image = _image(given)
            seen[image] += 1
            plain, kind = _plain(given.text("text").split("\n")[0]), image.split("/")[0]
            picture = self.picture(images, given.text("image"))
            note = known.get((kind, Path(image).stem, plain))
            answers = note.yes_no("answer") if note is not None else ()
            yield Row(f"{image}#{seen[image]}", (picture,), ask(plain), answers, kind, Path(image).name, image)

        yield from each(read_jsonl(file), make, _image)


def _image(given: Given) -> str:
    """Both questions of a picture have its name as their id."""
    return given.label("question_id")


def _texts(folder: Path) -> dict[tuple[str, str, str], Given]:
    """Answers by category, picture and question, from lines "question TAB answer"."""
    known = {}
    for file in [*folder.glob("*/*.txt"), *folder.glob("*/questions_answers_YN/*.txt")]:
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            question, _, answer = line.strip().partition("\t")
            key = file.relative_to(folder).parts[0], file.stem, _plain(question)
            known[key] = Given(Where(str(file), "line", number), number - 1, {"answer": answer})
    return known


def _plain(question: str) -> str:
    """The question without MME's own instruction, which LLaVA's prompt replaces."""
    return " ".join(question.replace(ASKED, "").split())
