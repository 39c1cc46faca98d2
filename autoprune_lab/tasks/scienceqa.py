"""ScienceQA-IMG: school questions with options, those that come with a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.options import LETTERS, option_letter, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, Benchmark, ask, identity
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import existing, find_data, matching, question_file, read_json, read_parquet
from autoprune_lab.tasks.selection import Row

PARQUET = ("ScienceQA-IMG/test-*.parquet", "*test*.parquet", "**/test-*.parquet", "*.parquet")
QUESTIONS = "llava_test_CQM-A.json"


@dataclass(frozen=True)
class ScienceQATask(Benchmark):
    """`lmms-lab/ScienceQA` (ScienceQA-IMG), or LLaVA's folder: its question file, images/test/ and problems.json.

    The kinds are the subjects. Halves go by what is in the picture: many questions share one. Source: arXiv 2209.09513.
    """

    path: str = "lmms-lab/ScienceQA"

    name = "scienceqa"

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right."""
        return float(option_letter(prediction) == sample.answers[0])

    def _from_parquet(self, place: Path) -> Iterator[Row]:
        needed = ("question", "choices", "answer", "hint", "subject")
        for i, (row, picture) in enumerate(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed)):
            context = f"Context: {row['hint']}\n" if row["hint"] else ""
            question = ask(f"{context}{row['question']}\n{with_letters(row['choices'])}", LETTER)
            yield Row(f"test-{i}", picture, question, _answers(row), row["subject"], identity(picture))

    def _from_llava(self, file: Path) -> Iterator[Row]:
        images = existing(self.images, file.parent / "images" / "test", "images")
        problems = read_json(existing(self.annotations, file.parent / "problems.json", "annotations"))
        for row in read_json(file):
            if "image" not in row:
                continue
            name, picture = str(row["id"]), (FilePicture(images / row["image"]),)
            question = ask(row["conversations"][0]["value"].replace("<image>", "").strip(), LETTER)
            problem = problems.get(name, {})
            subject = str(problem.get("subject") or self.name)
            yield Row(name, picture, question, _answers(problem), subject, identity(picture))


def _answers(problem: dict) -> tuple[str, ...]:
    return (LETTERS[problem["answer"]],) if problem.get("answer") is not None else ()
