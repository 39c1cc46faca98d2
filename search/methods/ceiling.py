"""The ceiling above an adaptive policy: the best curve for all, for each kind, and in hindsight for each sample.

Everybody chooses from one pool: the tuned fixed curve, staircases scaled to the budget, with the scorer, probe and
opening of either tuned pruner, and the rectangles by which needs are measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import unpruned_flops
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
from search.study.replay import replay, replay_pruners, unpruned_scores

BEST_STAIRCASE = "best fixed staircase"
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
    """Chooses curves on one split and scores them on the other."""

    on_tune: ModelEvaluator
    on_report: ModelEvaluator
    bound: Bound
    rectangles: Sequence[Curve]
    staircases: Sequence[Curve]

    def arms(self, base: Pruner, adaptive: Pruner, fixed: Pruner) -> list[Arm]:
        """The best staircase for all; the oracle per kind and hindsight per sample, at equal and at mean budgets.

        `base`: the pruner whose needs were measured. `fixed`: the tuned fixed curve, which everybody may choose: on the
        tune split no oracle is below it. Hindsight is chosen on the report split, on which it is scored.
        """
        splits = self.on_tune, self.on_report
        tune, report = (self._pool(evaluator, base, adaptive, fixed) for evaluator in splits)
        kinds = list(dict.fromkeys(tune.kinds))
        if unknown := set(report.kinds) - set(kinds):
            raise ConfigError(
                f"kinds of the report split have no sample in the tune split: {', '.join(sorted(unknown))}; no curve "
                "can be chosen for them: raise task.per_kind"
            )
        everyone = np.zeros(len(report.kinds), dtype=int)
        of_kind = np.array([kinds.index(kind) for kind in report.kinds])
        alone = np.arange(len(report.kinds))
        best = tune.choose(np.zeros(len(tune.kinds), dtype=int), in_mean=False)
        arms = [report.arm(BEST_STAIRCASE, best, everyone)]
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

    def _pool(self, evaluator: ModelEvaluator, base: Pruner, adaptive: Pruner, fixed: Pruner) -> Pool:
        whole = replay_pruners(evaluator, [fixed])
        for pruner in (adaptive, fixed):
            sized = replace(pruner, budget=self.bound.budget(pruner.opening))
            whole += replay(evaluator, sized, self.staircases, scaled=True)
        whole += replay(evaluator, base, self.rectangles)
        equal = affordable(getattr(whole, self.bound.unit), self.bound.value)
        equal[0] = True  # the fixed curve: within its own budget, which may be one in the mean
        unpruned = np.array([unpruned_flops(geometry) for geometry in evaluator.geometries], dtype=float)
        return Pool(whole, unpruned, [sample.kind for sample in evaluator.prepared.samples], self.bound, equal)


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
