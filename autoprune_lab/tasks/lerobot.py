"""Demonstrations in LeRobot's layout, without LeRobot: what a robot saw, what it was told, and what it did next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from math import exp, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from autoprune_lab.metrics.actions import figures, off_by, read_actions, worded
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.fields import Given, UnfitError, each
from autoprune_lab.tasks.pictures import Picture
from autoprune_lab.tasks.reading import find_data, matching, read_json, read_jsonl, read_parquet
from autoprune_lab.tasks.selection import Row, UnfitRow
from autoprune_lab.tasks.videos import FilmFrame

ACTION, STATE, EPISODE, FRAME, TIME, TASK = (
    "action", "observation.state", "episode_index", "frame_index", "timestamp", "task_index",
)  # fmt: skip
VERSIONS = ("v2.0", "v2.1", "v3.0")
WORDS = ("task", "__index_level_0__")  # of tasks.parquet: a column, or the index as pandas writes it


@dataclass(frozen=True)
class LeRobotTask(Benchmark):
    """A folder of `meta/`, `data/` and perhaps `videos/`, as LeRobot writes it in its versions 2.0 to 3.0.

    Each `every`-th frame of an episode that `horizon` actions follow is a sample: the pictures of `cameras` (None: of
    all, in the order of meta/info.json), `prompt` with the frame's task and state, and the next actions as the answer.
    Pictures are a column of the data, or a frame of a film, which needs PyAV. Frames of one episode are all in one
    half, and a kind is a task.

    A sample scores exp(-d), d the mean distance of the actions in standard deviations of each dimension over the
    files; 0 for an answer without `horizon` whole actions.
    """

    cameras: Sequence[str] | None = None
    horizon: int = 1
    every: int = 10
    prompt: str = "What action should the robot take to {task}?"

    name = "lerobot"
    max_new_tokens = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cameras", None if self.cameras is None else tuple(self.cameras))
        if self.horizon < 1 or self.every < 1:
            raise ValueError(f"task.horizon {self.horizon} and task.every {self.every} must be at least 1")

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        folder = _folder_of(self)
        for _, frames in groupby(folder.frames(), key=lambda frame: frame.values.get(EPISODE)):
            episode = list(frames)
            asked = episode[: max(len(episode) - self.horizon + 1, 0) : self.every]
            yield from each(asked, partial(self._asked, folder, episode))

    def actions(self) -> tuple[int, int]:
        """See Task."""
        return self.horizon, _folder_of(self).action_dim

    def score(self, prediction: str, sample: Sample) -> float:
        """See the class."""
        folder = _folder_of(self)
        said, done = (read_actions(text, folder.action_dim) for text in (prediction, sample.answers[0]))
        assert done is not None
        return exp(-off_by(said, done, folder.spread))

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """`actions.figures`, and the frames left out."""
        dim = _folder_of(self).action_dim
        said, done = ([read_actions(one, dim) for one in texts] for texts in zip(
            *((row.prediction, row.answers[0]) for row in rows), strict=True
        ))  # fmt: skip
        return figures(said, [one for one in done if one is not None]) | {"rows_left_out": float(self.n_unfit())}

    def _asked(self, folder: "_Folder", episode: Sequence[Given], given: Given) -> Iterator[Row]:
        number, place = given.number(EPISODE), given.order - episode[0].order
        ahead = episode[place : place + self.horizon]
        if [one.number(FRAME) for one in ahead] != [given.number(FRAME) + i for i in range(self.horizon)]:
            raise UnfitError("frames that do not follow one another")
        done = np.array([_numbers(one, ACTION, folder.action_dim) for one in ahead])
        words = folder.task(given)
        state = tuple(_numbers(given, STATE)) if STATE in given.values else ()
        told = " ".join(f"{value:.4g}" for value in state)
        question = self.prompt.replace("{task}", words).replace("{state}", told)
        name = f"{number}-{given.number(FRAME)}"
        answers = (worded(done),)
        yield Row(name, folder.pictures(given), question, answers, words, f"episode {number}", state=state)


@dataclass(frozen=True)
class _Folder:
    """What meta/ says of a folder; the pictures of `films` are in films, those of all `columns` in the data."""

    place: Path
    is_v3: bool
    fps: float
    chunk: int
    action_dim: int
    cameras: tuple[str, ...]
    films: frozenset[str]
    columns: tuple[str, ...]

    def frames(self) -> Iterator[Given]:
        """Every row of the data, episode by episode as they stand there; no picture is read."""
        files = matching(self.place, ["data/*/*.parquet"])
        return read_parquet(files, [ACTION, EPISODE, FRAME, TIME, TASK], self.columns)

    def pictures(self, given: Given) -> tuple[Picture, ...]:
        """What the cameras saw then."""
        held = dict(zip(self.columns, given.pictures, strict=True))
        return tuple(self._film_frame(one, given) if one in self.films else held[one] for one in self.cameras)

    def task(self, given: Given) -> str:
        """What the robot was told to do."""
        number = given.number(TASK)
        if number not in _tasks(self):
            raise UnfitError(f"a {TASK} that meta/tasks does not have")
        return _tasks(self)[number]

    @property
    def spread(self) -> np.ndarray:
        """The standard deviation of each dimension of the actions."""
        return _spread(self)

    def _film_frame(self, camera: str, given: Given) -> FilmFrame:
        number, (seconds,) = given.number(EPISODE), _numbers(given, TIME, 1)
        path, begin = f"chunk-{number // self.chunk:03d}/{camera}/episode_{number:06d}.mp4", 0.0
        if self.is_v3:
            told = _episodes(self).get(number)
            if told is None:
                raise UnfitError("an episode that meta/episodes does not have")
            chunk, file = (told.number(f"videos/{camera}/{part}_index") for part in ("chunk", "file"))
            path = f"{camera}/chunk-{chunk:03d}/file-{file:03d}.mp4"
            (begin,) = _numbers(told, f"videos/{camera}/from_timestamp", 1)
        return FilmFrame(self.place / "videos" / path, begin + seconds, self.fps, self.place)


def _folder_of(task: LeRobotTask) -> _Folder:
    return _read(find_data(task.path), task.cameras)


@cache
def _read(place: Path, cameras: tuple[str, ...] | None) -> _Folder:
    """Raises TaskError for what is no such folder, or has not these cameras."""
    file = place / "meta" / "info.json"
    if not file.is_file():
        raise TaskError(f"{place} has no meta/info.json: name a folder in LeRobot's layout")
    info = read_json(file)
    features = info.get("features") if isinstance(info, dict) else None
    if not isinstance(features, dict) or not all(isinstance(one, dict) for one in features.values()):
        raise TaskError(f"{file} has no features: is it of a data set of LeRobot's?")
    if (version := info.get("codebase_version")) not in VERSIONS:
        raise TaskError(f"{file} is of version {version!r}; read are {', '.join(VERSIONS)}")
    seen = {name: one.get("dtype") for name, one in features.items() if one.get("dtype") in ("image", "video")}
    chosen = tuple(seen) if cameras is None else cameras
    if not chosen or (strange := [name for name in chosen if name not in seen]):
        wrong = f"no camera {strange[0]!r}" if chosen else "no camera"
        raise TaskError(f"{file} has {wrong}; task.cameras may name: {', '.join(seen) or 'none, it has none'}")
    shape, fps, chunk = features.get(ACTION, {}).get("shape"), info.get("fps"), info.get("chunks_size", 1000)
    if not (isinstance(shape, list) and len(shape) == 1 and type(shape[0]) is int and shape[0] > 0):
        raise TaskError(f"{file} says actions are of shape {shape!r}; read are those of one axis, such as [7]")
    if not (isinstance(fps, int | float) and isfinite(fps) and fps > 0 and type(chunk) is int and chunk > 0):
        raise TaskError(f"{file} says fps {fps!r} and chunks_size {chunk!r}; both must be above 0")
    films, columns = ([name for name, kind in seen.items() if kind == one] for one in ("video", "image"))
    return _Folder(place, version == "v3.0", float(fps), chunk, shape[0], chosen, frozenset(films), tuple(columns))


@cache
def _tasks(folder: _Folder) -> dict[int, str]:
    """The tasks' words by their number; one that does not fit is none."""
    file = folder.place / "meta" / ("tasks.parquet" if folder.is_v3 else "tasks.jsonl")
    if not file.is_file():
        raise TaskError(f"{folder.place} has no meta/{file.name}")
    found = {}
    for given in read_parquet([file], [TASK], None) if folder.is_v3 else read_jsonl(file):
        try:
            found[given.number(TASK)] = given.label_of(*WORDS, default="")
        except UnfitError:
            continue
    return {number: words for number, words in found.items() if words}


@cache
def _episodes(folder: _Folder) -> dict[int, Given]:
    """What version 3 tells of each episode: where in which films it is."""
    rows = read_parquet(matching(folder.place, ["meta/episodes/*/*.parquet"]), [EPISODE], None)
    return {given.values[EPISODE]: given for given in rows}


@cache
def _spread(folder: _Folder) -> np.ndarray:
    found = []
    for given in folder.frames():
        try:
            found.append(_numbers(given, ACTION, folder.action_dim))
        except UnfitError:
            continue
    spread: np.ndarray = np.std(found, axis=0)
    return spread


def _numbers(given: Given, name: str, n: int | None = None) -> list[float]:
    """A list of `n` finite numbers, or of any number of them; one number is a list of one. Raises UnfitError."""
    value: Any = given.values.get(name)
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and isfinite(one) for one in numbers):
        raise UnfitError(f"{name} that is not all numbers")
    if n is not None and len(numbers) != n:
        raise UnfitError(f"{name} of {len(numbers)} numbers, not {n}")
    return [float(one) for one in numbers]
