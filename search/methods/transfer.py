"""What a tuned pruner is worth elsewhere: on another model, task or budget, beside the pruner that was tuned there.

A row is a study's trial, the best within a FLOPs ratio on its tune split. A column is a place (a model and a task) and
a FLOPs ratio, to which every pruner is scaled there, so that all cells of a column cost the same. A cell is what the
row's pruner scores on the place's report split, paired by sample with the column's other pruners. Answers are kept.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoprune_lab.errors import one_line
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.statistics.contrast import Arms
from autoprune_lab.statistics.records import Records
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.identity import is_free
from search.config.overrides import key_of
from search.config.paths import leaves
from search.config.variants import PARTS, combinations, variant
from search.methods.arms import sighted_of
from search.methods.table import AnswerCache
from search.results import provenance
from search.results.export import BUDGET, Pick, pruner_of
from search.results.study_result import StudyResult
from search.study import preflight
from search.study.calibrator import check_calibrated
from search.study.model_evaluator import ModelEvaluator, open_evaluator, weights_mark

UNPRUNED = "unpruned"


@dataclass(frozen=True, eq=False)
class Tuned:
    """A study's trial: the best within a FLOPs ratio on its tune split, where it scored `score`."""

    study: StudyResult
    within: float
    trial: int
    score: float
    pruner: Pruner

    @classmethod
    def of(cls, study: StudyResult, within: float, packages: Collection[str]) -> "Tuned":
        """Raises ConfigError where nothing on the front is so cheap, or the pruner cannot be made."""
        if study.cost != "flops_ratio":
            raise ConfigError(f"study {study.name} has a front of {study.cost}: its trials have no FLOPs ratio to pick")
        number, pruner = pruner_of(study, Pick(BUDGET, within), packages)
        check_calibrated(pruner, f"study {study.name}, trial {number}")
        return cls(study, within, number, study.front.score_at(within), pruner)

    @property
    def name(self) -> str:
        """'dense at 0.35'."""
        return f"{self.study.name} at {self.within:g}"


@dataclass(frozen=True, eq=False)
class Place:
    """A model and a task, and the studies that were tuned there."""

    experiment: Experiment
    homes: tuple[StudyResult, ...] = ()

    @property
    def model(self) -> str:
        """The last part of the checkpoint's name."""
        return str(self.experiment.typed.model["path"]).rpartition("/")[2].rpartition(":")[2]

    @property
    def task(self) -> str:
        """The benchmark's name."""
        return self.experiment.report_task.name

    @cached_property
    def prompts(self) -> tuple[Path, list[Geometry]]:
        """The checkpoint's folder, and the sizes of the report split's prompts; no weights are read."""
        if not any(sample.answers for sample in self.experiment.report_task.samples()):
            raise ConfigError(f"task {self.task}: its report split has no labels to score answers with")
        folder, geometries = preflight.prompts(self.experiment.model_settings, self.experiment.report_task)
        return folder, sighted_of(geometries)

    @cached_property
    def tune_mark(self) -> str:
        """Changes with the samples that budgets are calibrated on."""
        return provenance.fingerprint(self.experiment.task.samples())

    def cache(self, out: Path) -> AnswerCache:
        """Answers on the report split that are kept below `out`."""
        known = leaves({"model": self.experiment.settings.config["model"]}).items()
        made_of = {path: value for path, value in known if not is_free(path)}
        marks = {"weights": weights_mark(self.prompts[0]), "task": self.task}
        samples = {"samples": provenance.fingerprint(self.experiment.report_task.samples())}
        return AnswerCache(out / "records", made_of | marks | samples)


@dataclass(frozen=True, eq=False)
class Arm:
    """Who answers in a column: a pruner scaled to its ratio, or the unpruned model; `note` says why it cannot."""

    name: str
    pruner: Pruner | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Column:
    """A place, a FLOPs ratio, and who answers there.

    `own` is the best that was tuned in the place within the ratio, perhaps one of `rows`; None where no study was.
    `plain` is one that nobody tuned.
    """

    place: Place
    ratio: float
    rows: Mapping[Tuned, Arm]
    own: Arm | None
    plain: Arm
    unpruned: Arm = Arm(UNPRUNED)

    @property
    def arms(self) -> list[Arm]:
        """Everybody, each once."""
        return list(dict.fromkeys([self.unpruned, self.plain, *self.rows.values(), *([self.own] if self.own else [])]))


def rows_of(studies: Sequence[StudyResult], ratios: Sequence[float], packages: Collection[str]) -> list[Tuned]:
    """Every study's trial within every ratio. Raises ConfigError as `Tuned.of` does, and for a name given twice."""
    names = [study.name for study in studies]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two studies are called {doubled[0]}: rows are told apart by their names, rename a folder")
    return [Tuned.of(study, ratio, packages) for study in studies for ratio in ratios]


def places_of(studies: Sequence[StudyResult], words: Sequence[str], folders: Sequence[Path]) -> list[Place]:
    """Where the studies were tuned, then where the words lead from there; each once. Raises ConfigError."""
    moved = [word for word in words if _leads_elsewhere(key_of(word))]
    found: dict[str, Experiment] = {}
    homes: dict[str, list[StudyResult]] = {}
    for study in studies:
        (home,) = (
            variant(study.config, chosen, folders, f"study {study.name}")
            for chosen in combinations([word for word in words if word not in moved])
        )
        homes.setdefault(_identity(home), []).append(study)
        found.setdefault(_identity(home), home)
    for study in studies if moved else ():
        for chosen in combinations(words):
            there = variant(study.config, chosen, folders, f"study {study.name}")
            found.setdefault(_identity(there), there)
    return [Place(experiment, tuple(homes.get(key, ()))) for key, experiment in found.items()]


def columns_of(
    places: Sequence[Place],
    ratios: Sequence[float],
    rows: Sequence[Tuned],
    untuned: tuple[str, Pruner],
    packages: Collection[str],
) -> list[Column]:
    """Every place at every ratio. Raises ConfigError for a pruner that does not fit a place; no model is loaded."""
    columns = []
    for place in places:
        for ratio in ratios:
            arms = {row: scaled(row.name, row.pruner, place, ratio) for row in rows}
            plain = scaled(*untuned, place, ratio)
            columns.append(Column(place, ratio, arms, _own(place, ratio, arms, packages), plain))
    return columns


def _own(place: Place, ratio: float, arms: Mapping[Tuned, Arm], packages: Collection[str]) -> Arm | None:
    """Of the place's studies, the trial that scored best on the tune split within the ratio."""
    near = [study for study in place.homes if study.front.index_at(ratio) is not None]
    best = max((Tuned.of(study, ratio, packages) for study in near), key=lambda one: one.score, default=None)
    if best is None:
        return None
    same = [arm for row, arm in arms.items() if (row.study, row.trial) == (best.study, best.trial)]
    return same[0] if same else scaled(best.name, best.pruner, place, ratio)


def scaled(name: str, pruner: Pruner, place: Place, ratio: float) -> Arm:
    """The pruner at exactly this FLOPs ratio: of every sample, or in the mean where its own budget holds in the mean.

    Raises ConfigError where it does not fit the place. A ratio that it cannot reach is the arm's note.
    """
    kind = MeanBudget if isinstance(pruner.budget, MeanBudget) else Budget
    fitted = replace(pruner, budget=kind(flops_ratio=ratio, opening=pruner.opening))
    _, geometries = place.prompts
    bits = np.zeros(len(geometries))
    try:
        fitted.calibrated(bits, geometries).plan(bits, geometries)
    except BudgetError as error:
        return Arm(name, note=_floor(ratio, error))
    except ValueError as error:
        raise ConfigError(f"{name} does not fit {place.model}, {place.task}: {one_line(error)}") from error
    return Arm(name, fitted)


def described(columns: Sequence[Column], out: Path) -> str:
    """What would run, in lines."""
    caches = {column.place: column.place.cache(out) for column in columns}
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
            opened, cache = Opened(place, models), place.cache(out)
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


def _key(place: Place, arm: Arm) -> list[Any]:
    """All that the answers depend on beside the place's model and report split."""
    pruner = arm.pruner
    is_ready = pruner is None or pruner.budget is None or pruner.budget.ready
    return [plain(pruner), *([] if is_ready else [place.tune_mark])]


def _lines(column: Column, records: Mapping[Arm, Records]) -> list[dict[str, Any]]:
    """A column's cells: the rows, then who was not tuned."""
    tuned = [
        {
            "tuned": row.study.name,
            "within": row.within,
            "trial": row.trial,
            "at_home": row.study in column.place.homes,
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
        if other in records and other is not arm:
            found |= arms.difference(arm.name, [other.name]).columns(f"minus_{name}")
    return used | found


def _floor(ratio: float, error: BudgetError) -> str:
    return f"floor {ratio + error.missing:.3f}"


def _identity(experiment: Experiment) -> str:
    """Equal where model and questions are of one kind, however many are asked and on which device."""
    told = leaves({part: experiment.settings.config[part] for part in PARTS})
    return json.dumps({path: value for path, value in told.items() if _leads_elsewhere(path)}, sort_keys=True)


def _leads_elsewhere(key: str) -> bool:
    """Is it a field, or the name, of what makes a place another one?"""
    return key.partition(".")[0] in PARTS and not is_free(key) and key != "task.per_kind"
