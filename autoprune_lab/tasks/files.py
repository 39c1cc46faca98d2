"""Questions of your own: one JSON line each, pictures as files."""

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune_lab.metrics.vqa import normalise
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.fields import Given, UnfitError, each, text
from autoprune_lab.tasks.reading import existing, find_data, read_jsonl
from autoprune_lab.tasks.selection import Row, UnfitRow


@dataclass(frozen=True)
class FilesTask(Benchmark):
    """A jsonl file of `image` (a path or a list of paths), `question`, `answers` (one or a list), and perhaps `kind`.

    Pictures are looked for beside the file, or in `images`. The question is asked as it stands.
    """

    name = "files"
    max_new_tokens = 32

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        file = find_data(self.path)
        if file.is_dir():
            raise TaskError(f"task.path {self.path} is a folder; name the jsonl file in it")
        folder = existing(self.images, file.parent, "images")

        def make(given: Given) -> Iterator[Row]:
            named = given.values.get("image")
            images = [text(name, "image") for name in (named if isinstance(named, list) else [named])]
            if not images:
                raise UnfitError("no image")
            kind = given.label_of("kind", default=file.stem)
            pictures = tuple(self.picture(folder, image) for image in images)
            name, question = str(given.order + 1), given.text("question")
            yield Row(name, pictures, question, given.answers(), kind, "+".join(images))

        yield from each(read_jsonl(file), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text is one of the answers, after the spelling rules of VQA (`normalise`)."""
        return float(normalise(prediction) in {normalise(answer) for answer in sample.answers})
