"""What benchmarks about videos share: files or folders of frames, how many frames are shown, and how fast they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import exists, isdir
from pathlib import Path

from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.videos import Footage, FrameFolder, VideoFile, check_fps, check_most

ENDINGS = (".mp4", ".MP4", ".mkv", ".webm", ".avi", "")


@dataclass(frozen=True)
class FilmedBenchmark(Benchmark):
    """`images`: the folder of videos. `frames` of a video are shown (`videos.spread`).

    A video is a file, which PyAV decodes, or a folder of frames that follow each other `fps` a second.
    """

    frames: int = 32
    fps: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_most(self.frames, "task.frames")
        check_fps(self.fps, "task.fps")

    def notes(self) -> Sequence[str]:
        """What was left out, and that frames of a folder were taken at the task's `fps`."""
        return (*super().notes(), *self._told_fps())

    def footage(self, folder: Path, name: str, fps: float | None = None) -> Footage:
        """The film of that name, at `fps` where it is a folder of frames; None: at the task's, which is told."""
        path, inside = folder / name, None if self.images_outside else folder
        if not isdir(path):
            return VideoFile(path, self.frames, inside)
        return FrameFolder(path, self.fps if fps is None else fps, self.frames, inside, assumed=fps is None)

    def film(self, folder: Path, name: str) -> Footage:
        """The film of that name, of that name with another ending, or its folder of frames, which has none."""
        stem = name[: -len(ending)] if (ending := Path(name).suffix) in ENDINGS[:-1] else name
        names = (name, *(stem + ending for ending in ENDINGS))
        return self.footage(folder, next((one for one in names if exists(folder / one)), f"{stem}.mp4"))

    def _told_fps(self) -> list[str]:
        n = sum(isinstance(video, FrameFolder) and video.assumed for video in self.footages())
        said = f"task {self.name}: {n} frame folders come without fps and count as {self.fps:g} a second (task.fps)"
        return [said] if n else []
