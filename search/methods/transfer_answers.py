"""Answers the cells of a matrix of transfers, keeps the answers, and pairs each cell with its column's references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.statistics.contrast import Arms
from autoprune_lab.statistics.records import Records
from search.config.experiment import Experiment
from search.config.identity import is_free
from search.config.paths import leaves
from search.methods.table import AnswerCache
from search.methods.transfer import Arm, Column, Place
from search.results import provenance
from search.study.model_evaluator import ModelEvaluator, open_evaluator, weights_mark


def described(columns: Sequence[Column], out: Path) -> str:
    """What would run, in lines."""
    caches = {column.place: _cache(column.place, out) for column in columns}
    asked = [(column.place, arm) for column in columns for arm in column.arms if not arm.note]
    files = {caches[place].file(_key(place, arm)) for place, arm in asked}
    rows = ", ".join(f"{row.name}, trial {row.trial}" for row in columns[0].rows)
    places = "; ".join(f"{column.place.model}, {column.place.task} at {column.ratio:g}" for column in columns)
    missing = sum(not file.is_file() for file in files)
    return f"rows: {rows}\ncolumns: {places}\nevaluations: {missing} to run, {len(files) - missing} kept"


def run(columns: Sequence[Column], out: Path) -> pd.DataFrame:
    """Answer what is not kept yet, model by model; a line a cell, those of the untuned and the unpruned arm too."""
    models, lines = Models(), dict[Column, list[dict[str, Any]]]()
    places = sorted({column.place: None for column in columns}, key=lambda place: place.model)
    with progress(doing="transfer", unit="evaluations", total=sum(len(one.arms) for one in columns)) as bar:
        for place in places:
            opened, cache = Opened(place, models), _cache(place, out)
            for column in (one for one in columns if one.place is place):
                records = dict[Arm, Records]()
                for arm in column.arms:
                    if not arm.note:
                        records[arm] = cache.kept(_key(place, arm), partial(opened.run, arm.pruner))
                    bar.update()
                lines[column] = _lines(column, records)
    return pd.DataFrame([line for column in columns for line in lines[column]])


@dataclass
class Models:
    """The model that was loaded last: neighbouring places of one model load it once."""

    described: Mapping[str, Any] | None = None
    vlm: VLM | None = None

    def of(self, experiment: Experiment) -> VLM:
        """Loads it where it is another one than the last."""
        described = experiment.settings.config["model"]
        if self.vlm is None or self.described != described:
            self.vlm = None  # gone before the next one comes
            self.described, self.vlm = described, replace(experiment).model
        return self.vlm


@dataclass(frozen=True, eq=False)
class Opened:
    """A place whose model is loaded when an answer is missing."""

    place: Place
    models: Models

    def run(self, pruner: Pruner | None) -> Records:
        """Answer the report split; a budget that holds in the mean is calibrated on the tune split, without labels."""
        if pruner is not None and pruner.budget is not None and not pruner.budget.ready:
            pruner = self._tune.calibrated(pruner)
        return self._report.run(pruner)

    @cached_property
    def _report(self) -> ModelEvaluator:
        experiment = self.place.experiment
        return open_evaluator(self.models.of(experiment), experiment.report_task, experiment.typed)

    @cached_property
    def _tune(self) -> ModelEvaluator:
        experiment = self.place.experiment
        return open_evaluator(self.models.of(experiment), experiment.task, experiment.typed)


def _cache(place: Place, out: Path) -> AnswerCache:
    """Answers on the place's report split that are kept below `out`."""
    known = leaves({"model": place.experiment.settings.config["model"]}).items()
    made_of = {path: value for path, value in known if not is_free(path)}
    marks = {"weights": weights_mark(place.prompts[0]), "task": place.task}
    samples = {"samples": provenance.fingerprint(place.experiment.report_task.samples())}
    return AnswerCache(out / "records", made_of | marks | samples)


def _key(place: Place, arm: Arm) -> list[Any]:
    """All that the answers depend on beside the place's model and report split."""
    pruner = arm.pruner
    is_ready = pruner is None or pruner.budget is None or pruner.budget.ready
    return [plain(pruner), *([] if is_ready else [provenance.fingerprint(place.experiment.task.samples())])]


def _lines(column: Column, records: Mapping[Arm, Records]) -> list[dict[str, Any]]:
    """A column's cells: the rows, then who was not tuned."""
    tuned = [
        {
            "tuned": row.study.name,
            "within": row.within,
            "trial": row.trial,
            "at_home": any(row.study is home for home in column.place.homes),
            **_cell(column, arm, records),
        }
        for row, arm in column.rows.items()
    ]
    return tuned + [{"tuned": arm.name, **_cell(column, arm, records)} for arm in (column.plain, column.unpruned)]


def _cell(column: Column, arm: Arm, records: Mapping[Arm, Records]) -> dict[str, Any]:
    """Where it was used, what it cost and scored there, and score minus the own pruner's and the untuned one's."""
    used = {"model": column.place.model, "task": column.place.task, "at": column.ratio}
    others = {"own": column.own, "plain": column.plain}
    used |= {name: other.name if other else None for name, other in others.items()}
    if arm not in records:
        return used | {"note": arm.note}
    arms, own = Arms({one.name: answered for one, answered in records.items()}), records[arm]
    found = {"is_own": arm is column.own, "flops_ratio": own.flops_ratio, "samples": len(own.rows), "note": ""}
    found |= arms.score(arm.name).columns("score")
    for name, other in others.items():
        if other is not None and other is not arm and other in records:
            found |= arms.difference(arm.name, [other.name]).columns(f"minus_{name}")
    return used | found
