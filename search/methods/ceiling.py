"""The ceiling above an adaptive policy: the best curve for all, for each kind, and in hindsight for each sample.

Everybody chooses from one pool: the tuned fixed curve, staircases scaled to the budget, with the scorer, probe and
opening of either tuned pruner, and the rectangles by which needs are measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.statistics.bins import fit_bins
from autoprune_lab.statistics.headroom import (
    affordable,
    best_each,
    by_kind,
    held_in_mean,
    summed,
    taken,
    weights,
    with_ties_broken,
)
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.replay import Curve, Replay
from search.config.errors import ConfigError
from search.study.model_evaluator import ModelEvaluator
from search.study.replay import along, replay_pruners, unpruned_scores

EQUAL, IN_MEAN = "equal budgets", "mean held"
ORACLE, HINDSIGHT = "oracle per kind", "hindsight per sample"
FLOORS = (0.3, 0.1)  # of a staircase's first step, what the later ones keep


@dataclass(frozen=True)
class Bound:
    """A budget: `flops_ratio` in (0, 1], or `mean_tokens` entering a layer."""

    unit: str
    value: float

    def __str__(self) -> str:
        """'9.1 visual tokens entering a layer'."""
        return f"{self.value:g} visual tokens" if self.unit == "mean_tokens" else f"FLOPs ratio {self.value:g}"

    def budget(self, opening: int | float | None) -> Budget:
        """The same for every sample."""
        own = {self.unit: self.value}
        return Budget(own.get("flops_ratio"), own.get("mean_tokens"), opening)


@dataclass(frozen=True, eq=False)
class Arm:
    """One row of the table: every sample's score, and the mean cost."""

    name: str
    scores: Float[np.ndarray, "samples"]
    mean_tokens: float
    flops_ratio: float

    @classmethod
    def of(cls, name: str, several: Sequence[Records]) -> "Arm":
        """Of one evaluation, or the mean of several."""
        scores = np.mean([[row.score for row in records.rows] for records in several], axis=0)
        costs = [(records.mean_tokens, records.flops_ratio) for records in several]
        tokens, flops = np.mean(costs, axis=0)
        return cls(name, scores, float(tokens), float(flops))


@dataclass(frozen=True, eq=False)
class Pool:
    """Curves that anybody may choose, on one split. `equal`: those within the budget for every sample."""

    replay: Replay
    unpruned: Float[np.ndarray, "samples"]
    kinds: Sequence[str]
    bound: Bound
    equal: Bool[np.ndarray, "curves"]

    @property
    def costs(self) -> Float[np.ndarray, "samples curves"]:
        """In the bound's unit, so that their mean is the mean cost: FLOPs are summed before they are divided."""
        if self.bound.unit == "mean_tokens":
            return self.replay.mean_tokens
        return np.asarray(self.replay.flops_ratio * (self.unpruned / self.unpruned.mean())[:, None])

    def choose(self, groups: np.ndarray, in_mean: bool, break_ties: bool = True) -> np.ndarray:
        """The curve of each group of samples, by these samples' own scores."""
        values = summed(self.replay.scores, groups, weights(self.kinds))
        values = with_ties_broken(values) if break_ties else values
        costs = summed(self.costs, groups, np.full(len(groups), 1 / len(groups)))
        equal = best_each(values, costs, self.equal)
        if not in_mean:
            return equal
        rows = np.arange(len(values))
        also = equal if costs[rows, equal].sum() <= self.bound.value else None
        return held_in_mean(values, costs, self.bound.value, also)

    def arm(self, name: str, choice: np.ndarray, groups: np.ndarray) -> Arm:
        """What the samples score along the curves of their groups."""
        scores, tokens, flops = (
            taken(matrix, choice, groups)
            for matrix in (self.replay.scores, self.replay.mean_tokens, self.replay.flops_ratio)
        )
        ratio = np.average(flops, weights=self.unpruned)
        return Arm(name, scores, float(tokens.mean()), float(ratio))


@dataclass(frozen=True, eq=False)
class Ceiling:
    """Chooses curves on one split and scores them on the other.

    `base`: the pruner whose needs were measured. `adaptive`, `fixed`: what the two searches found; everybody may choose
    the tuned fixed curve, so on the tune split no oracle is below it.
    """

    on_tune: ModelEvaluator
    on_report: ModelEvaluator
    bound: Bound
    rectangles: Sequence[Curve]
    staircases: Sequence[Curve]
    base: Pruner
    adaptive: Pruner
    fixed: Pruner

    @cached_property
    def tune(self) -> Pool:
        """What curves are chosen on."""
        return self._pool(self.on_tune)

    @cached_property
    def report(self) -> Pool:
        """What they are scored on. ConfigError where it has kinds that the other lacks."""
        pool = self._pool(self.on_report)
        if unknown := set(pool.kinds) - set(self.tune.kinds):
            raise ConfigError(
                f"kinds of the report split have no sample in the tune split: {', '.join(sorted(unknown))}; no curve "
                "can be chosen for them: raise task.per_kind"
            )
        return pool

    @property
    def best_fixed(self) -> Pruner:
        """The pool's curve that all samples of the tune split are answered best along, the tuned one among them."""
        (best,) = self.tune.choose(np.zeros(len(self.tune.kinds), dtype=int), in_mean=False)
        return self._pruners(self.on_tune)[int(best)]

    @property
    def table(self) -> Pruner | None:
        """The adaptive pruner, its table filled from the pool by the numbers that its estimator gives the tune split.

        None for a policy that is no table of staircases.
        """
        if not vars(self.adaptive.policy).keys() >= {"edges", "depths", "keep"}:
            return None
        pool, own = self.tune, slice(1, 1 + len(self.staircases))
        numbers = self.on_tune.complexities(self.adaptive)
        found = fit_bins(pool.replay.scores[:, own], pool.costs[:, own], numbers, pool.kinds, pool.equal[own])
        rows = [steps_of(self.staircases[curve]) for curve in found.choice]
        depths, keep = ([row[i] for row in rows] for i in range(2))
        policy: Any = self.adaptive.policy
        return replace(self.adaptive, policy=replace(policy, edges=found.edges, depths=tuple(depths), keep=tuple(keep)))

    def on_tune_score(self, pruner: Pruner) -> float:
        """What the tune split scores with it."""
        return float(replay_pruners(self.on_tune, [pruner]).scores[:, 0] @ weights(self.tune.kinds))

    def arms(self) -> list[Arm]:
        """The oracle per kind and hindsight per sample, at equal and at mean budgets.

        Hindsight is chosen on the report split, on which it is scored.
        """
        tune, report, arms = self.tune, self.report, []
        kinds = list(dict.fromkeys(tune.kinds))
        of_kind = np.array([kinds.index(kind) for kind in report.kinds])
        alone = np.arange(len(report.kinds))
        for how in (EQUAL, IN_MEAN):
            chosen = tune.choose(by_kind(tune.kinds), how == IN_MEAN)
            arms.append(report.arm(f"{ORACLE}, {how}", chosen, of_kind))
        for how in (EQUAL, IN_MEAN):
            chosen = report.choose(alone, how == IN_MEAN, break_ties=False)
            arms.append(report.arm(f"{HINDSIGHT}, {how}", chosen, alone))
        return arms

    def unpruned(self, name: str) -> Arm:
        """The model as it is."""
        tokens = np.mean([geometry.n_vision for geometry in self.on_report.geometries])
        return Arm(name, unpruned_scores(self.on_report), float(tokens), 1.0)

    def _pruners(self, evaluator: ModelEvaluator) -> list[Pruner]:
        """The tuned curve; staircases with the settings of the adaptive, then of the fixed pruner; rectangles."""
        pruners = [self.fixed]
        for pruner in (self.adaptive, self.fixed):
            sized = replace(pruner, budget=self.bound.budget(pruner.opening))
            pruners += along(evaluator, sized, self.staircases, scaled=True)
        return pruners + along(evaluator, self.base, self.rectangles)

    def _pool(self, evaluator: ModelEvaluator) -> Pool:
        whole = replay_pruners(evaluator, self._pruners(evaluator))
        equal = affordable(getattr(whole, self.bound.unit), self.bound.value)
        equal[0] = True  # the fixed curve: within its own budget, which may be one in the mean
        unpruned = np.array([unpruned_flops(geometry) for geometry in evaluator.geometries], dtype=float)
        return Pool(whole, unpruned, [sample.kind for sample in evaluator.prepared.samples], self.bound, equal)


def steps_of(curve: Curve) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where a staircase steps, as fractions of the depth from 0 on, and what it keeps from there: (depths, keep)."""
    starts = [layer for layer in range(len(curve)) if layer == 0 or curve[layer] != curve[layer - 1]]
    return tuple(layer / len(curve) for layer in starts), tuple(curve[layer] for layer in starts)


def staircases(depths: Sequence[int], n_layers: int) -> list[Curve]:
    """Shapes of one to three steps that end at some of `depths`, each later step one of `FLOORS`; none after the last.

    Every choice of one depth, of two with each floor, and of three with both floors in order.
    """
    steps: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((depth,), (1.0,)) for depth in depths]
    steps += [(pair, (1.0, floor)) for pair in combinations(depths, 2) for floor in FLOORS]
    steps += [(three, (1.0, *FLOORS)) for three in combinations(depths, 3)]
    return [
        tuple(
            next((value for end, value in zip(ends, values, strict=True) if layer < end), 0.0)
            for layer in range(n_layers)
        )
        for ends, values in steps
    ]
