"""MLVU: seven tasks with options about films of minutes to hours."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autoprune_lab.metrics.options import before_bracket, with_letters
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.choices import listed, quoted
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, matching, read_json_rows
from autoprune_lab.tasks.selection import Row, UnfitRow

FILES = ("json/[1-7]_*.json", "[1-7]_*.json")  # 8 and 9 are answered freely and judged by GPT-4
ASKED = "\nOnly give the best option.\nBest option: ("


@dataclass(frozen=True)
class MLVUTask(FilmedBenchmark):
    """`MLVU/MVLU`, or its folder MLVU/ with json/1_plotQA.json, ... and video/1_plotQA/, ...; dev, with options.

    The kinds are the seven tasks, so the mean over kinds is the benchmark's M-Avg.

    Source: arXiv 2406.04264; prompt and reading of answers as lmms-eval (mlvu_dev).
    """

    path: str = "MLVU/MVLU"

    name = "mlvu"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        inner = place / "MLVU"  # where the hub has it
        root = inner if inner.is_dir() else place
        folder = existing(self.images, root / "video", "images")
        for file in matching(root, FILES):
            yield from each(read_json_rows(file), partial(self._asked, folder=folder, task=file.stem))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter before the first bracket, or the whole answer, is right."""
        return float(before_bracket(prediction) == sample.answers[0])

    def _asked(self, given: Given, folder: Path, task: str) -> Iterator[Row]:
        lettered = listed(given, "candidates")
        question = f"{given.text('question')}\n{with_letters(lettered, '({}) {}')}\n{ASKED}"
        name, film, kind = f"{task}-{given.order}", f"{task}/{given.text('video')}", task.partition("_")[2]
        answers = quoted(given, "answer", lettered)
        yield Row(name, (), question, answers, kind, film, videos=(self.film(folder, film),))
