"""Searches whose true front is known, without a model: what `benchmarks.search` compares samplers on.

A *grid* is answered whole (`benchmarks.front_grid`), so its front is exact; a study is told what the model answered.
The *default space* has no end: its objective is interpolated (`benchmarks.recorded`), and its front is the best of all
that any study has found, a little below the true one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna

from autoprune_lab.fronts.front import ParetoFront
from benchmarks.front_grid import COST, composed, read, table_of
from benchmarks.recorded import Recorded
from search.config.experiment import Experiment
from search.config.space import Space
from search.study.objective import CONSTRAINT, Objective

DATA = Path(__file__).parent / "data" / "objective-shapes-s0.npz"
BOUND = 0.5  # on the FLOPs ratio
Values = tuple[float, ...]
Function = Callable[[optuna.Trial], Values]


class Problem(Protocol):
    """A space, what its settings cost and score, and the front that is there to be found."""

    def experiment(self, *words: str) -> Experiment:
        """Its space, searched as the words say."""

    def objective(self, experiment: Experiment) -> Function:
        """What a study calls; as `search.study.objective.Objective`, constraints and refusals included."""

    def truth(self) -> ParetoFront:
        """The front, as far as it is known before anything is searched."""


@dataclass(frozen=True, eq=False)
class GridObjective:
    """Looks a trial up: cost and score by the values of the space, in its order; the score is None over the bound."""

    space: Space
    table: Mapping[tuple[Any, ...], tuple[float, float | None]]

    def __call__(self, trial: optuna.Trial) -> Values:
        """Cost and score; raises TrialPruned for what is over the bound."""
        values = self.space.suggest(trial)
        cost, score = self.table[_key(values[d.path] for d in self.space.dimensions)]
        trial.set_constraint(CONSTRAINT, cost - BOUND)
        if score is None:
            raise optuna.TrialPruned
        return cost, score


@dataclass(frozen=True)
class Grid:
    """The space of `benchmarks.front_grid` in a world."""

    world: str

    def experiment(self, *words: str) -> Experiment:
        """See `Problem`."""
        return composed(self.world, *words)

    def objective(self, experiment: Experiment) -> GridObjective:
        """See `Problem`."""
        return GridObjective(experiment.space, self.table)

    def truth(self) -> ParetoFront:
        """Of all settings."""
        points = [(cost, score) for cost, score in self.table.values() if score is not None]
        return ParetoFront.of(*np.array(points).T)

    @cached_property
    def table(self) -> dict[tuple[Any, ...], tuple[float, float | None]]:
        """Cost and score of every setting, the mean over the kinds; None over the bound."""
        paths = [dimension.path for dimension in self.experiment().space.dimensions]
        known = {}
        for row in read(table_of(self.world)):
            kinds = [float(value) for name, value in row.items() if name not in (*paths, COST) and value]
            known[_key(row[path] for path in paths)] = float(row[COST]), float(np.mean(kinds)) if kinds else None
        return known


@dataclass(frozen=True)
class Default:
    """The default study's space, interpolated."""

    def experiment(self, *words: str) -> Experiment:
        """See `Problem`."""
        return Experiment.compose(["policy=logistic_adaptive", *words])

    def objective(self, experiment: Experiment) -> Objective:
        """See `Problem`."""
        return Objective.of(experiment, self.recorded)

    @cached_property
    def recorded(self) -> Recorded:
        """The record."""
        return Recorded.read(DATA)

    def truth(self) -> ParetoFront:
        """Unknown until it is searched."""
        return ParetoFront()


def found(study: optuna.Study, first: int) -> ParetoFront:
    """The front of the first so many trials, within the bound."""
    trials = [t for t in study.get_trials(deepcopy=False)[:first] if t.state == optuna.trial.TrialState.COMPLETE]
    within = [t.values for t in trials if max(t.constraints.values()) <= 0]
    return ParetoFront.of([values[0] for values in within], [values[1] for values in within])


def _key(values: Iterable[Any]) -> tuple[Any, ...]:
    """Numbers without the noise of adding steps, whether read from a table or drawn."""

    def read_as(value: Any) -> Any:
        try:
            return round(float(value), 6)
        except ValueError:
            return value

    return tuple(map(read_as, values))
