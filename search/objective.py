"""One trial: settings -> pruner -> plan -> (FLOPs ratio, score), with the bound as a constraint.

A trial whose plan is over the bound, whose budget cannot be met or whose policy refuses its settings is *refused*: the
model does not run, and the trial ends as PRUNED. It carries its constraint all the same, which TPE reads:
it counts such a trial as infeasible, ranked by how far it is over. So every ended trial has the constraint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
import optuna
from jaxtyping import Float
from omegaconf import DictConfig

from autoprune_lab.budget import BudgetError
from autoprune_lab.flops import prefill_flops, unpruned_flops
from autoprune_lab.geometry import Geometry
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.arm import build_pruner
from search.config import ConfigError
from search.schema import BudgetSettings
from search.space import Space, apply

CONSTRAINT = "bound"  # <= 0: within the bound, in the bound's own unit
PRUNER = "pruner"  # user attribute: what ran, in `Pruner.save`'s form
INVALID = 1e6  # how far over a setting counts that no policy accepts


class Outcome(Protocol):
    """What the objective reads of an evaluation; `autoprune_lab.records.Records` is one."""

    @property
    def score(self) -> float:
        """In [0, 1]."""

    @property
    def flops_ratio(self) -> float:
        """In (0, 1]."""

    @property
    def mean_tokens(self) -> float:
        """Visual tokens entering a layer."""

    def by_kind(self) -> Mapping[str, float]:
        """Score of each kind of question."""


class Bench(Protocol):
    """A model with a task in front of it; a test may bring its own."""

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Sizes of every prompt."""

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """Bits per sample at the pruner's probe layer; zeros for a policy that is not adaptive."""

    def run(self, pruner: Pruner) -> Outcome:
        """Answer every sample."""


@dataclass(frozen=True)
class Objective:
    """Callable that optuna minimises in its first value and maximises in its second."""

    config: DictConfig
    bound: BudgetSettings
    space: Space
    bench: Bench

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        """(FLOPs ratio, score); the constraint is set last on every path."""
        try:
            pruner = build_pruner(apply(self.config, self.space.suggest(trial)))
        except ConfigError as error:
            _refuse(trial, INVALID, str(error))
        bits = self.bench.complexities(pruner)
        try:
            pruner = pruner.calibrated(bits, self.bench.geometries)
            over, ratio, tokens = self.planned(pruner, bits)
        except BudgetError as error:
            _refuse(trial, error.missing, str(error))
        except ValueError as error:  # the policy gave a shape that is none
            _refuse(trial, INVALID, str(error))
        trial.set_user_attr(PRUNER, plain(pruner))
        trial.set_user_attr("planned_ratio", ratio)
        trial.set_user_attr("mean_tokens", tokens)
        if over > 0:
            _refuse(trial, over, f"plan costs {ratio:.4f} of the unpruned prefill, over the bound")
        outcome = self.bench.run(pruner)
        if pruner.policy.adaptive:
            trial.set_user_attr("complexity_mean", float(bits.mean()))
            trial.set_user_attr("complexity_sd", float(bits.std()))
        for kind, score in outcome.by_kind().items():
            trial.set_user_attr(f"score/{kind}", score)
        trial.set_constraint(CONSTRAINT, over)
        return outcome.flops_ratio, outcome.score

    def planned(self, pruner: Pruner, bits: Float[np.ndarray, "samples"]) -> tuple[float, float, float]:
        """(distance over the bound, FLOPs ratio, mean tokens) by arithmetic alone."""
        counts = pruner.plan(bits, self.bench.geometries).tokens
        pairs = zip(self.bench.geometries, counts, strict=True)
        spent = sum(prefill_flops(geometry, row) for geometry, row in pairs)
        ratio = spent / sum(unpruned_flops(geometry) for geometry in self.bench.geometries)
        tokens = float(counts.mean())
        overs = [
            value - bound
            for value, bound in ((ratio, self.bound.flops_ratio), (tokens, self.bound.mean_tokens))
            if bound is not None
        ]
        return max(overs, default=ratio - 1.0), ratio, tokens


def _refuse(trial: optuna.Trial, over: float, reason: str) -> NoReturn:
    trial.set_user_attr("refused", reason)
    trial.set_constraint(CONSTRAINT, over)
    raise optuna.TrialPruned(reason)
