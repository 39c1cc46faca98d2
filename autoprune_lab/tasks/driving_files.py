"""Driving data on disk: the multi-image conversations that published driving models are trained on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune_lab.metrics.trajectory import figures, nearness, plan_error, read_trajectory
from autoprune_lab.statistics.records import Record
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import Benchmark
from autoprune_lab.tasks.conversation import exchange
from autoprune_lab.tasks.fields import Given, UnfitError, each
from autoprune_lab.tasks.reading import existing, find_data, read_json_rows, read_jsonl
from autoprune_lab.tasks.selection import Row, UnfitRow


@dataclass(frozen=True)
class DrivingFilesTask(Benchmark):
    """A JSON list or JSON lines, a row an exchange whose answer holds `n_waypoints` points, `step` seconds apart.

    A row has `images` (or `image`), paths beside the file or in the folder `images`, and `messages` of role and
    content, or `conversations` of from and value: one user turn, one assistant turn, perhaps a system turn before
    them, or a field `system`. Content is text with <image>, or a list of parts of text and pictures, which may name
    the pictures in place of `images`. The pictures are shown before the text. Rows that do not fit are left out and
    counted, in `notes` and in `summary`.
    """

    n_waypoints: int = 6
    step: float = 0.5

    name = "driving_files"
    max_new_tokens = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_waypoints < 1 or not self.step > 0:
            raise ValueError(f"task.n_waypoints {self.n_waypoints} and task.step {self.step} must be above 0")

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        file = find_data(self.path)
        if file.is_dir():
            raise TaskError(f"task.path {self.path} is a folder; name the JSON file in it")
        folder = existing(self.images, file.parent, "images")

        def make(given: Given) -> Iterator[Row]:
            question, answer, paths = exchange(given)
            if read_trajectory(answer, self.n_waypoints) is None:
                raise UnfitError(f"no list of {self.n_waypoints} points in the answer")
            name = given.label("id") if "id" in given.values else str(given.order)
            pictures = tuple(self.picture(folder, path) for path in paths)
            yield Row(name, pictures, question, (answer,), given.label_of("kind", default="all"), json.dumps(paths))

        yield from each(read_jsonl(file) if file.suffix == ".jsonl" else read_json_rows(file), make)

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
        return found | {"unreadable": unreadable, "rows_left_out": float(self.n_unfit())}
