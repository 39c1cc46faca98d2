"""What a tuned pruner is worth elsewhere: on another model, task or budget, beside the pruner that was tuned there.

A row is a study's trial, the best within a FLOPs ratio on its tune split. A column is a place (a model and a task) and
a FLOPs ratio, to which every pruner is scaled there, so that all cells of a column cost the same. A cell is what the
row's pruner scores on the place's report split, paired by sample with the column's other pruners. Answers are kept.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from autoprune_lab.errors import one_line
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.identity import is_free
from search.config.overrides import key_of
from search.config.paths import leaves
from search.config.variants import PARTS, combinations, variant
from search.methods.arms import floor_of, sighted_of
from search.results.export import BUDGET, Pick, pruner_of
from search.results.paired_answers import UNPRUNED
from search.results.study_result import StudyResult
from search.study import preflight
from search.study.calibrator import check_calibrated


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
    same = [arm for row, arm in arms.items() if row.study is best.study and row.trial == best.trial]
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
        return Arm(name, note=floor_of(ratio, error))
    except ValueError as error:
        raise ConfigError(f"{name} does not fit {place.model}, {place.task}: {one_line(error)}") from error
    return Arm(name, fitted)


def _identity(experiment: Experiment) -> str:
    """Equal where model and questions are of one kind, however many are asked and on which device."""
    told = leaves({part: experiment.settings.config[part] for part in PARTS})
    return json.dumps({path: value for path, value in told.items() if _leads_elsewhere(path)}, sort_keys=True)


def _leads_elsewhere(key: str) -> bool:
    """Is it a field, or the name, of what makes a place another one?"""
    return key.partition(".")[0] in PARTS and not is_free(key) and key != "task.per_kind"
