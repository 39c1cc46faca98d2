"""Video-MME: three questions with four options about each of 900 films, from a minute to an hour."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune_lab.metrics.options import first_capital
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import over_all
from autoprune_lab.tasks.choices import named, worded
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

if TYPE_CHECKING:
    from autoprune_lab.statistics.records import Record

PARQUET = ("videomme/test-*.parquet", "test-*.parquet", "*.parquet")
BEFORE = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, or D) of the correct option.\n"
)
AFTER = "\nThe best answer is:"
PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:",  # as they stand there, commas missing
)  # fmt: skip


@dataclass(frozen=True)
class VideoMMETask(FilmedBenchmark):
    """`lmms-lab/Video-MME` with its zip files unpacked to data/. No subtitles. The kinds are short, medium and long.

    Source: arXiv 2405.21075; prompt and figure as the benchmark's repository.
    """

    path: str = "lmms-lab/Video-MME"

    name = "videomme"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        files = matching(place := find_data(self.path), PARQUET)
        folder = existing(self.images, (place if place.is_dir() else place.parent) / "data", "images")

        def make(given: Given) -> Iterator[Row]:
            lines, film = worded(given, "options"), given.text("videoID")
            question = BEFORE + "\n".join((given.text("question"), *lines)) + AFTER
            name, answers, kind = given.label("question_id"), named(given, "answer", lines), given.label("duration")
            yield Row(name, (), question, answers, kind, film, videos=(self.film(folder, film),))

        needed = ("videoID", "question_id", "question", "options", "answer", "duration")
        yield from each(read_parquet(files, needed, image=None), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the first capital letter from A to D is right."""
        return float(first_capital(prediction, "ABCD", PREFIXES) == sample.answers[0])

    def summary(self, rows: Sequence["Record"]) -> Mapping[str, float]:
        """Accuracy over all questions."""
        return over_all(rows)
