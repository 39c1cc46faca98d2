"""ScienceQA-IMG: school questions with options, those that come with a picture."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.options import LETTERS, option_letter, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, Benchmark, ask, identity
from autoprune_lab.tasks.choices import listed, numbered
from autoprune_lab.tasks.fields import Given, UnfitError, each, is_empty, options, text
from autoprune_lab.tasks.reading import (
    existing,
    find_data,
    matching,
    question_file,
    read_json_notes,
    read_json_rows,
    read_parquet,
)
from autoprune_lab.tasks.selection import Row, UnfitRow

PARQUET = ("ScienceQA-IMG/test-*.parquet", "*test*.parquet", "**/test-*.parquet", "*.parquet")
QUESTIONS = "llava_test_CQM-A.json"
LINE = re.compile(r"^([A-H])\. (.+)$", re.MULTILINE)  # an option in LLaVA's question


@dataclass(frozen=True)
class ScienceQATask(Benchmark):
    """`lmms-lab/ScienceQA` (ScienceQA-IMG), or LLaVA's folder: its question file, images/test/ and problems.json.

    The kinds are the subjects. Halves go by what is in the picture: many questions share one. Source: arXiv 2209.09513.
    """

    path: str = "lmms-lab/ScienceQA"

    name = "scienceqa"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        file = question_file(place, QUESTIONS)
        return self._from_parquet(place) if file is None else self._from_llava(file)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right."""
        return float(option_letter(prediction) == sample.answers[0])

    def _from_parquet(self, place: Path) -> Iterator[Row | UnfitRow]:
        def make(given: Given) -> Iterator[Row]:
            choices, hint = _choices(given), given.values.get("hint")
            context = "" if is_empty(hint) else f"Context: {given.text('hint')}\n"
            question = ask(f"{context}{given.text('question')}\n{with_letters(choices)}", LETTER)
            subject, answers = given.label("subject"), numbered(given, "answer", choices)
            yield Row(f"test-{given.order}", given.pictures, question, answers, subject, identity(given.pictures))

        needed = ("question", "choices", "answer", "hint", "subject")
        yield from each(read_parquet(matching(place, (*PARQUET, QUESTIONS)), needed), make)

    def _from_llava(self, file: Path) -> Iterator[Row | UnfitRow]:
        images = existing(self.images, file.parent / "images" / "test", "images")
        problems = read_json_notes(existing(self.annotations, file.parent / "problems.json", "annotations"))

        def make(given: Given) -> Iterator[Row]:
            if "image" not in given.values:  # a question about text alone
                return
            name, picture = given.label("id"), (self.picture(images, given.text("image")),)
            question = ask(_asked(given).replace("<image>", "").strip(), LETTER)
            problem = problems.get(name)
            answers = () if problem is None else numbered(problem, "answer", _choices(problem, question))
            subject = self.name if problem is None else problem.label_of("subject", default=self.name)
            yield Row(name, picture, question, answers, subject, identity(picture))

        yield from each(read_json_rows(file), make)


def _asked(given: Given) -> str:
    """The first turn of LLaVA's conversation."""
    turns = given.values.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        raise UnfitError("no conversations")
    return text(turns[0].get("value"), "question")


def _choices(given: Given, question: str = "") -> list[str | None]:
    """The lettered choices; where LLaVA's problems do not repeat them, those that the question has a line for."""
    if given.values.get("choices") is None and question:
        return options([dict(LINE.findall(question)).get(letter) for letter in LETTERS], LETTERS)
    return listed(given, "choices")
