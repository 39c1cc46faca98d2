"""Driving data on disk: the multi-image conversations that published driving models are trained on."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autoprune_lab.records import Record
from autoprune_lab.tasks.base import Sample, Task
from autoprune_lab.trajectory import figures, plan_error, read_trajectory

IMAGE = "<image>"
USERS, ASSISTANTS = ("human", "user"), ("gpt", "assistant")


class RowError(ValueError):
    """Why a row cannot be asked or scored; a few words."""


@dataclass(frozen=True)
class DrivingFilesTask(Task):
    """One JSON list or JSON-lines file, a row an exchange whose answer ends in a list of points.

    A row has `images` (or `image`), paths beside the file or in the folder `images`, and `messages` of role and
    content, or `conversations` of from and value: one user turn, one assistant turn, perhaps a system turn. Rows that
    do not fit are left out and counted (`notes`, and `rows_left_out` in `summary`). Waypoints are `step` seconds apart.
    """

    path: str
    images: str | None = None
    n_waypoints: int = 6
    step: float = 0.5
    most: int | None = None

    name = "driving_files"
    max_new_tokens = 256

    def __post_init__(self) -> None:
        if not Path(self.path).expanduser().is_file():
            raise ValueError(f"task.path {self.path} is not a file; name the JSON file of conversations")
        if self.n_waypoints < 1 or self.step <= 0:
            raise ValueError(f"task.n_waypoints {self.n_waypoints} and task.step {self.step} must be above 0")
        if self.most is not None and self.most < 1:
            raise ValueError(f"task.most {self.most} must be at least 1, or null for all")

    def samples(self) -> tuple[Sample, ...]:
        """In the file's order, at most `most`. ValueError when no row fits."""
        return _read(self)[0]

    def notes(self) -> Sequence[str]:
        """How many rows were left out, and why."""
        reasons = _read(self)[1]
        told = ", ".join(f"{n} with {reason}" for reason, n in reasons)
        return (f"{self.path}: left out {told}",) if reasons else ()

    def score(self, prediction: str, sample: Sample) -> float:
        """exp(-d), d the mean distance in metres between planned and driven waypoints; 0 for what is no plan."""
        plan, driven = (read_trajectory(text, self.n_waypoints) for text in (prediction, sample.answers[0]))
        assert driven is not None
        return 0.0 if plan is None else float(np.exp(-plan_error(plan, driven).l2.mean()))

    def summary(self, rows: Sequence[Record]) -> Mapping[str, float]:
        """L2 as in `trajectory.figures`, share of unreadable answers (they count as standing still), rows left out.

        No collisions: the files do not say where the others are.
        """
        plans = [read_trajectory(row.prediction, self.n_waypoints) for row in rows]
        driven = [read_trajectory(row.answers[0], self.n_waypoints) for row in rows]
        errors = [plan_error(np.zeros_like(d) if p is None else p, d)
                  for p, d in zip(plans, driven, strict=True) if d is not None]  # fmt: skip
        found = {name: value for name, value in figures(errors, self.step).items() if name.startswith("l2")}
        left_out = sum(n for _, n in _read(self)[1])
        return found | {
            "unreadable": float(np.mean([plan is None for plan in plans])),
            "rows_left_out": float(left_out),
        }


@cache
def _read(task: DrivingFilesTask) -> tuple[tuple[Sample, ...], tuple[tuple[str, int], ...]]:
    """Samples, and the reasons for rows left out with their counts, commonest first."""
    file = Path(task.path).expanduser()
    folder = Path(task.images).expanduser() if task.images else file.parent
    samples: list[Sample] = []
    reasons: Counter[str] = Counter()
    for i, row in enumerate(_rows(file)):
        if len(samples) == task.most:
            break
        try:
            samples.append(_sample(row, i, folder, task.n_waypoints))
        except RowError as error:
            reasons[str(error)] += 1
    if not samples:
        told = ", ".join(f"{n} with {reason}" for reason, n in reasons.most_common())
        raise ValueError(f"task.path {task.path}: no row can be used: {told or 'the file is empty'}")
    return tuple(samples), tuple(reasons.most_common())


def _rows(file: Path) -> Iterator[Any]:
    text = file.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
    except ValueError as error:
        raise ValueError(f"{file} is neither a JSON list nor JSON lines: {error}") from None


def _sample(row: Any, i: int, folder: Path, n_waypoints: int) -> Sample:
    if not isinstance(row, dict):
        raise RowError("no object")
    question, answer = _exchange(row)
    if read_trajectory(answer, n_waypoints) is None:
        raise RowError(f"no list of {n_waypoints} points in the answer")
    named = row.get("images", row.get("image"))
    paths = [named] if isinstance(named, str) else named
    if not isinstance(paths, list) or not paths:
        raise RowError("no images")
    wanted = question.count(IMAGE)
    if wanted not in (0, len(paths)):
        raise RowError(f"another number of {IMAGE} than images")
    pictures = tuple(_open(folder / str(path)) for path in paths)
    kind = str(row.get("kind", "all"))
    return Sample(str(row.get("id", i)), pictures, question.replace(IMAGE, "").strip(), (answer,), kind)


def _exchange(row: Mapping[str, Any]) -> tuple[str, str]:
    """Question, with the system's words before it, and answer."""
    turns = row.get("messages", row.get("conversations"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RowError("no messages")
    said = [(str(t.get("role", t.get("from"))), str(t.get("content", t.get("value", "")))) for t in turns]
    users = [text for role, text in said if role in USERS]
    assistants = [text for role, text in said if role in ASSISTANTS]
    if len(users) != 1 or len(assistants) != 1:
        raise RowError("more or less than one question and answer")
    system = [text for role, text in said if role == "system"]
    return "\n".join([*system, *users]), assistants[0]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError:
        raise RowError("an image that is missing or broken") from None
