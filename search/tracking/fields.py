"""What MLflow is told of a trial and of a study: plain values, computed from the study alone."""

import hashlib
import posixpath
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.fronts.front import ParetoFront
from search.study.futility import ANSWERED
from search.study.trials import is_feasible

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
LONGEST = 6000  # letters of a value that MLflow takes
LONGEST_KEY = 250
CONSTRAINT = "constraint/"  # + a constraint's name: its metric
PLANNED = "planned_ratio"  # what flops_ratio says once more


@dataclass(frozen=True)
class TrialFields:
    """A child run; times in milliseconds since 1970."""

    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    status: str
    start: int
    end: int

    @classmethod
    def of(cls, study: optuna.Study, trial: FrozenTrial) -> "TrialFields":
        """The fields of an ended trial."""
        attributes = {k: v for k, v in trial.user_attrs.items() if k != ANSWERED}
        noted = {safe(k): text(v) for k, v in attributes.items() if isinstance(v, str | bool | int)}
        return cls(
            noted | {"kind": "trial", "trial": str(trial.number), "state": trial.state.name},
            {safe(key): text(value) for key, value in trial.params.items()},
            {safe(key): value for key, value in _metrics(study, trial).items()},
            STATUS[trial.state],
            milliseconds(trial.datetime_start),
            milliseconds(trial.datetime_complete),
        )


def metric_names(study: optuna.Study) -> list[str]:
    """Of the study's values, in their order."""
    return list(study.metric_names or ("flops_ratio", "score")[-len(study.directions) :])


class Progress:
    """How good a study was after each of its trials; what has been computed once is not computed again."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._steps: list[tuple[int, int, dict[str, float]]] = []  # the place is the trial's number
        self._moment, self._n_feasible = 0, 0
        self._front, self._best = ParetoFront(), dict[str, float]()

    def after(self, number: int = -1) -> list[tuple[int, int, dict[str, float]]]:
        """(trial number, milliseconds, how good the study was with all trials up to it) of every number above this one.

        It ends before the first trial that has not ended, so what was said once stays true, and never falls:
        the hypervolume and size of the front, or the best value of a study with one objective.
        """
        trials = self.study.get_trials(deepcopy=False)
        while len(self._steps) < len(trials) and trials[len(self._steps)].state.is_finished():
            trial = trials[len(self._steps)]
            self._moment = max(self._moment, milliseconds(trial.datetime_complete))
            if is_feasible(trial):
                self._add(trial)
            self._steps.append((trial.number, self._moment, self._reached()))
        return self._steps[number + 1 :]

    def _add(self, trial: FrozenTrial) -> None:
        self._n_feasible += 1
        values: list[float] = trial.values
        if len(values) > 1:
            front = self._front
            self._front = ParetoFront.of([*front.costs, values[0]], [*front.scores, values[1]])
            return
        better = min if self.study.directions[0] == StudyDirection.MINIMIZE else max
        name = safe(f"best/{metric_names(self.study)[0]}")
        self._best = {name: better(values[0], self._best.get(name, values[0]))}

    def _reached(self) -> dict[str, float]:
        count = {"feasible_trials": float(self._n_feasible)}
        if len(self.study.directions) == 1:
            return count | self._best
        return count | {"hypervolume": self._front.hypervolume(), "front_points": float(len(self._front.costs))}


def safe(name: str) -> str:
    """A key that MLflow takes: the name itself if it may be, else a like one that ends in a hash of it.

    So it depends on nothing else, and two names share a key only where one of them is written as the other's key.
    Names that differ in upper and lower case alone stay two, as they are in SQLite, PostgreSQL and on a server's disk.
    """
    if _is_key(name):
        return name
    mark = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    steps = re.sub(r"[^\w\-. :/]", "_", name).split("/")
    like = "/".join(step for step in steps if step not in ("", ".", "..")).lstrip("./")
    return f"{like[: LONGEST_KEY - len(mark) - 1]}-{mark}"


def text(value: object) -> str:
    """A value that MLflow and its database take: cut at LONGEST, without what UTF-8 or a database does not have."""
    return str(value)[:LONGEST].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _is_key(name: str) -> bool:
    """MLflow's own rule (it takes a key for a path, which must lead nowhere else)."""
    plain = re.fullmatch(r"[\w\-. :/]+", name) is not None and len(name) <= LONGEST_KEY
    return plain and posixpath.normpath(name) == name and name != "." and not name.startswith(("/", ".."))


def milliseconds(moment: datetime | None) -> int:
    """Since 1970; now, if there is none."""
    return int((moment.timestamp() if moment is not None else time.time()) * 1000)


def _metrics(study: optuna.Study, trial: FrozenTrial) -> dict[str, float]:
    values = dict(zip(metric_names(study), trial.values or (), strict=False))
    values |= {f"{CONSTRAINT}{key}": value for key, value in trial.constraints.items()}
    return values | {k: v for k, v in trial.user_attrs.items() if isinstance(v, float) and k != PLANNED}
