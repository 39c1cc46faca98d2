"""EgoSchema: questions with five options about three minutes of somebody's day, seen by their own eyes."""

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune_lab.metrics.mmmu import earliest_letter
from autoprune_lab.metrics.options import LETTERS
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.benchmark import LETTER
from autoprune_lab.tasks.choices import worded
from autoprune_lab.tasks.fields import Given, UnfitError, each, is_empty
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, matching, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow

PARQUET = ("Subset/test-*.parquet", "test-*.parquet", "*.parquet")


@dataclass(frozen=True)
class EgoSchemaTask(FilmedBenchmark):
    """`lmms-lab/egoschema` with its zip files unpacked to videos/: the 500 questions with public answers. One kind.

    The answers of a sample are the right letter, and all options after it.

    Source: arXiv 2308.09126; prompt and reading of answers as lmms-eval. Differs: an answer without an option is wrong;
    lmms-eval draws an option at random.
    """

    path: str = "lmms-lab/egoschema"

    name = "egoschema"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        files = matching(place := find_data(self.path), PARQUET)
        folder = existing(self.images, (place if place.is_dir() else place.parent) / "videos", "images")

        def make(given: Given) -> Iterator[Row]:
            lines, film = worded(given, "option"), given.text("video_idx")
            question = "\n".join((given.text("question"), *lines, LETTER))
            name, videos = given.label("question_idx"), (self.film(folder, film),)
            yield Row(name, (), question, _answers(given, lines), self.name, film, videos=videos)

        needed = ("question_idx", "question", "video_idx", "option", "answer")
        yield from each(read_parquet(files, needed, image=None), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right."""
        right, *lines = sample.answers
        return float(earliest_letter(prediction, dict(zip(LETTERS, lines, strict=False))) == right)


def _answers(given: Given, lines: list[str]) -> tuple[str, ...]:
    """The letter that the number, written as text, counts to, and the options; none where there is no number."""
    if is_empty(given.values.get("answer")):
        return ()
    number = given.label("answer").strip()
    if number not in map(str, range(len(lines))):
        raise UnfitError("an answer that names no option")
    return (LETTERS[int(number)], *lines)
