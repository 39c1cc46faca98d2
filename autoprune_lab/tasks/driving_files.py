"""Driving data on disk: the multi-image conversations that published driving models are trained on."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from autoprune_lab.records import Record
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.pictures import FilePicture
from autoprune_lab.tasks.reading import existing, find_data, read_json, read_jsonl
from autoprune_lab.tasks.selection import Row
from autoprune_lab.trajectory import figures, nearness, plan_error, read_trajectory

IMAGE = "<image>"
USERS, ASSISTANTS = ("human", "user"), ("gpt", "assistant")


class UnusableRowError(ValueError):
    """Why a row cannot be asked or scored; a few words."""


@dataclass(frozen=True)
class DrivingFilesTask(Benchmark):
    """A JSON list or JSON lines, a row an exchange whose answer holds `n_waypoints` points, `step` seconds apart.

    A row has `images` (or `image`), paths beside the file or in the folder `images`, and `messages` of role and
    content, or `conversations` of from and value: one user turn, one assistant turn, perhaps a system turn. The
    pictures are shown before the text. Rows that do not fit are left out and counted, in `notes` and in `summary`.
    """

    n_waypoints: int = 6
    step: float = 0.5

    name = "driving_files"
    max_new_tokens = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_waypoints < 1 or self.step <= 0:
            raise ValueError(f"task.n_waypoints {self.n_waypoints} and task.step {self.step} must be above 0")

    def rows(self) -> Iterator[Row]:
        """See Benchmark; those that hold a trajectory."""
        yield from _read(self)[0]

    def notes(self) -> Sequence[str]:
        """How many rows were left out, and why."""
        reasons = _read(self)[1]
        return (*((f"task {self.name}: left out {_told(reasons)}",) if reasons else ()), *super().notes())

    def score(self, prediction: str, sample: Sample) -> float:
        """The plan's `nearness` to the one driven; 0 for what is no plan."""
        plan, driven = (read_trajectory(text, self.n_waypoints) for text in (prediction, sample.answers[0]))
        assert driven is not None
        return nearness(plan, driven)

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """L2 as in `trajectory.figures`, share of unreadable answers (they count as standing still), rows left out.

        No collisions: the files do not say where the others are.
        """
        plans = [read_trajectory(row.prediction, self.n_waypoints) for row in rows]
        driven = [read_trajectory(row.answers[0], self.n_waypoints) for row in rows]
        errors = [plan_error(np.zeros_like(d) if p is None else p, d)
                  for p, d in zip(plans, driven, strict=True) if d is not None]  # fmt: skip
        found = {name: value for name, value in figures(errors, self.step).items() if name.startswith("l2")}
        unreadable = float(np.mean([plan is None for plan in plans]))
        return found | {"unreadable": unreadable, "rows_left_out": float(sum(_read(self)[1].values()))}


@cache
def _read(task: DrivingFilesTask) -> tuple[tuple[Row, ...], Counter[str]]:
    """The rows that can be used, and how many cannot, by reason. Raises TaskError when none can."""
    file = find_data(task.path)
    if not file.is_file():
        raise TaskError(f"task.path {task.path} is a folder; name the JSON file in it")
    folder = existing(task.images, file.parent, "images")
    rows: list[Row] = []
    reasons: Counter[str] = Counter()
    for i, given in enumerate(_objects(file)):
        try:
            rows.append(_row(given, i, folder, task.n_waypoints))
        except UnusableRowError as error:
            reasons[str(error)] += 1
    if not rows:
        raise TaskError(f"task.path {task.path}: no row can be used: {_told(reasons) or 'the file is empty'}")
    return tuple(rows), reasons


def _told(reasons: Counter[str]) -> str:
    return ", ".join(f"{n} with {reason}" for reason, n in reasons.most_common())


def _objects(file: Path) -> Iterator[Any]:
    if file.suffix == ".jsonl":
        yield from read_jsonl(file, ())
        return
    content = read_json(file)
    if not isinstance(content, list):
        raise TaskError(f"{file} holds no list of rows")
    yield from content


def _row(given: Any, i: int, folder: Path, n_waypoints: int) -> Row:
    if not isinstance(given, dict):
        raise UnusableRowError("no object")
    question, answer = _exchange(given)
    if read_trajectory(answer, n_waypoints) is None:
        raise UnusableRowError(f"no list of {n_waypoints} points in the answer")
    named = given.get("images", given.get("image"))
    paths = [named] if isinstance(named, str) else named
    if not isinstance(paths, list) or not paths:
        raise UnusableRowError("no images")
    if question.count(IMAGE) not in (0, len(paths)):
        raise UnusableRowError(f"another number of {IMAGE} than images")
    pictures = tuple(FilePicture(folder / str(path)) for path in paths)
    text = question.replace(IMAGE, "").strip()
    return Row(str(given.get("id", i)), pictures, text, (answer,), str(given.get("kind", "all")), json.dumps(paths))


def _exchange(given: Mapping[str, Any]) -> tuple[str, str]:
    """Question, with the system's words before it, and answer."""
    turns = given.get("messages", given.get("conversations"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableRowError("no messages")
    said = [(str(t.get("role", t.get("from"))), str(t.get("content", t.get("value", "")))) for t in turns]
    users = [text for role, text in said if role in USERS]
    assistants = [text for role, text in said if role in ASSISTANTS]
    if len(users) != 1 or len(assistants) != 1:
        raise UnusableRowError("more or less than one question and answer")
    system = [text for role, text in said if role == "system"]
    return "\n".join([*system, *users]), assistants[0]
