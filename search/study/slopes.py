"""How cost and likeness to the unpruned model change with each number of a trial: what `search.study.gradient` reads.

How many tokens a number moves in each layer is arithmetic: differences of plans, so any policy and any sizing will do.
What a token more in a layer is worth is a gradient through the frozen model, `autoprune_lab.evaluation.gradients`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from jaxtyping import Float
from optuna.distributions import CategoricalDistribution

from autoprune_lab.pruner import Pruner
from search.config.errors import ConfigError
from search.config.space import Space
from search.study.axis import Axis
from search.study.evaluator import Evaluator
from search.study.planned import Planned, planned

if TYPE_CHECKING:
    from search.config.experiment import Experiment

COST_SLOPES, SCORE_SLOPES = "slopes/cost", "slopes/score"
"""User attributes: by parameter, a change across its whole range; of the planned FLOPs ratio, and of the likeness."""

REACH = 0.05  # of a range, to both sides: plans are of whole tokens, and a cut's layer is whole too


def reads_slopes(experiment: "Experiment") -> bool:
    """Does the sampler say so, by an attribute `reads_slopes`? Then every trial has them."""
    return bool(getattr(experiment.sampler(0), "reads_slopes", False))


@dataclass(frozen=True)
class Slopes:
    """Notes a trial's slopes in it; `pruner`, `space` and `evaluator` as in `Objective`, `gradients` is the model's."""

    pruner: Callable[[Mapping[str, Any]], Pruner]
    space: Space
    evaluator: Evaluator
    gradients: Callable[[Pruner], Float[np.ndarray, "samples layers"]]

    @classmethod
    def of(cls, experiment: "Experiment", evaluator: Evaluator, measured: Any) -> "Slopes | None":
        """Those that the experiment's sampler asks for; None: it asks for none. `measured` is the model's evaluator."""
        if not reads_slopes(experiment):
            return None
        return cls(experiment.pruner, experiment.space, evaluator, measured.count_gradients)

    def note(self, trial: optuna.Trial, pruner: Pruner, bits: Float[np.ndarray, "samples"], is_within: bool) -> None:
        """The cost's always, the score's where the trial `is_within` its bound: no model runs for others."""
        moves = dict(self._moves(trial, bits))
        trial.set_user_attr(COST_SLOPES, {name: cost for name, (cost, _) in moves.items()})
        if is_within:
            worth = self.gradients(pruner)
            gains = {name: float((worth * counts).sum(1).mean()) for name, (_, counts) in moves.items()}
            trial.set_user_attr(SCORE_SLOPES, gains)

    def _moves(
        self, trial: optuna.Trial, bits: Float[np.ndarray, "samples"]
    ) -> Iterator[tuple[str, tuple[float, Float[np.ndarray, "samples layers"]]]]:
        """By parameter, what FLOPs ratio and counts change by across its range, at the rate of around here.

        Complexities stay those of the trial. A side on which nothing can be planned is left out.
        """
        for name, distribution in trial.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                continue
            axis = Axis(distribution)
            plans = [(at, self._plan(trial, name, axis.value(at), bits)) for at in _around(axis, trial.params[name])]
            (low, less), *_, (high, more) = [(at, plan) for at, plan in plans if plan is not None]
            width = max(high - low, 1e-12)
            cost = (more.flops_ratio - less.flops_ratio) / width
            yield name, (float(cost), (more.plan.tokens - less.plan.tokens) / width)

    def _plan(self, trial: optuna.Trial, name: str, value: Any, bits: Float[np.ndarray, "samples"]) -> Planned | None:
        geometries = self.evaluator.geometries
        try:
            pruner = self.pruner(self.space.changes(trial.params | {name: value}))
            return planned(pruner.calibrated(bits, geometries), bits, geometries)
        except (ConfigError, ValueError):  # a budget out of reach, or a setting that the policy refuses
            return None


def _around(axis: Axis, value: float) -> list[float]:
    """Places below, at and above the value; whole numbers and steps are at least one apart."""
    reach = REACH if axis.levels is None else max(REACH, 1 / max(axis.levels - 1, 1))
    here = axis.unit(value)
    sides = np.clip([here - reach, here + reach], 0.0, 1.0)
    low, high = (float(at) for at in axis.snapped(sides))
    return [low, here, high]
