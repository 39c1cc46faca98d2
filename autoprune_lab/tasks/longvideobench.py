"""LongVideoBench: questions that refer to a moment of a film, from eight seconds to an hour."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.options import first_capital, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER, ask, over_all
from autoprune_lab.tasks.choices import listed, numbered
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, matching, read_json_rows
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

QUESTIONS = ("lvb_val.json",)
PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is",
    "The correct option is", "Best answer:", "Best option:",
)  # fmt: skip


@dataclass(frozen=True)
class LongVideoBenchTask(FilmedBenchmark):
    """`longvideobench/LongVideoBench`: lvb_val.json, and its tar files unpacked to videos/. No subtitles.

    The kinds are its groups of length: up to 15, 60, 600 and 3600 seconds.

    Source: arXiv 2407.15754; prompt and reading of answers as lmms-eval (longvideobench_val_v). Differs: an answer
    without a letter is wrong, where the benchmark draws an option at random; 16 new tokens, not 32.
    """

    path: str = "longvideobench/LongVideoBench"

    name = "longvideobench"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        (file,) = matching(find_data(self.path), QUESTIONS)
        folder = existing(self.images, file.parent / "videos", "images")

        def make(given: Given) -> Iterator[Row]:
            lettered = listed(given, "candidates")
            question = ask(f"{given.text('question')}\n{with_letters(lettered)}", LETTER)
            answers, film = numbered(given, "correct_choice", lettered), given.text("video_path")
            kind = f"{given.label('duration_group')} s"
            yield Row(given.label("id"), (), question, answers, kind, film, videos=(self.film(folder, film),))

        yield from each(read_json_rows(file), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the first capital letter from A to E is right."""
        return float(first_capital(prediction, "ABCDE", PREFIXES) == sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy over all questions."""
        return over_all(rows)
