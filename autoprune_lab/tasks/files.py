"""Questions of your own: one JSON line each, pictures and videos as files."""

from collections.abc import Iterator
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

from autoprune_lab.metrics.vqa import normalise
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.fields import Given, UnfitError, each, is_empty, text
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, read_jsonl
from autoprune_lab.tasks.selection import Row, UnfitRow
from autoprune_lab.tasks.videos import Footage, check_fps


@dataclass(frozen=True)
class FilesTask(FilmedBenchmark):
    """A jsonl file of `image` or `video` (a path or a list of paths), `question`, `answers`, and perhaps `kind`, `fps`.

    Pictures and videos are looked for beside the file, or in `images`; a row may have both. A video is a file, which
    PyAV decodes, or a folder of frames; `frames` of it are shown (`videos.spread`). A folder's frames follow each other
    `fps` a second, of its row or else the task's. `answers` is one or a list. The question is asked as it stands.
    """

    frames: int = 8

    name = "files"
    max_new_tokens = 32

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        file = find_data(self.path)
        if file.is_dir():
            raise TaskError(f"task.path {self.path} is a folder; name the jsonl file in it")
        folder = existing(self.images, file.parent, "images")

        def make(given: Given) -> Iterator[Row]:
            filmed = _paths(given, "video") if given.values.get("video") is not None else []
            images = _paths(given, "image") if not filmed or given.values.get("image") is not None else []
            kind = given.label_of("kind", default=file.stem)
            pictures = tuple(self.picture(folder, image) for image in images)
            videos = tuple(self._footage(folder, path, given) for path in filmed)
            name, question, shown = str(given.order + 1), given.text("question"), "+".join([*images, *filmed])
            yield Row(name, pictures, question, given.answers(), kind, shown, videos=videos)

        yield from each(read_jsonl(file), make)

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the text is one of the answers, after the spelling rules of VQA (`normalise`)."""
        return float(normalise(prediction) in {normalise(answer) for answer in sample.answers})

    def _footage(self, folder: Path, name: str, given: Given) -> Footage:
        fps = given.values.get("fps")
        if is_empty(fps):
            return self.footage(folder, name)
        if not isdir(folder / name):
            raise UnfitError("fps beside a video file, which has its own")
        try:
            return self.footage(folder, name, check_fps(fps, "fps"))
        except ValueError:
            raise UnfitError("fps that is no number above 0") from None


def _paths(given: Given, name: str) -> list[str]:
    """A path or a list of paths. Raises UnfitError, for none too."""
    named = given.values.get(name)
    paths = [text(path, name) for path in (named if isinstance(named, list) else [named])]
    if not paths:
        raise UnfitError(f"no {name}")
    return paths
