"""Questions of your own: one JSON line each, pictures as files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoprune_lab.metrics.vqa import normalise
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import existing, find_data, read_jsonl
from autoprune_lab.tasks.selection import Row


@dataclass(frozen=True)
class FilesTask(Benchmark):
    """A jsonl file of `image` (a path or a list of paths), `question`, `answers` (one or a list), and perhaps `kind`.

    Pictures are looked for beside the file, or in `images`. The question is asked as it stands.
    """

    name = "files"
    max_new_tokens = 32

    def rows(self) -> Iterator[Row]:
        """See Benchmark."""
        file = find_data(self.path)
        if not file.is_file():
            raise TaskError(f"task.path {self.path} is a folder; name the jsonl file in it")
        folder = existing(self.images, file.parent, "images")
        for i, row in enumerate(read_jsonl(file, ("image", "question")), start=1):
            images = [row["image"]] if isinstance(row["image"], str) else list(row["image"])
            pictures = tuple(FilePicture(folder / image) for image in images)
            kind = str(row.get("kind") or Path(self.path).stem)
            yield Row(str(i), pictures, row["question"], _answers(row.get("answers")), kind, "+".join(images))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text is one of the answers, after the spelling rules of VQA (`normalise`)."""
        return float(normalise(prediction) in {normalise(answer) for answer in sample.answers})


def _answers(given: object) -> tuple[str, ...]:
    return tuple(map(str, given)) if isinstance(given, list) else () if given is None else (str(given),)
