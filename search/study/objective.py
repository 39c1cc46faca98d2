"""One trial: settings -> pruner -> plan -> (cost, score), with the bound and every limit as a constraint.

A trial whose plan is over the bound, whose budget cannot be met or whose policy refuses its settings is *refused*: the
model does not run, and the trial ends as PRUNED. One that the study's pruner finds worse than the best on the blocks so
far, or that cannot add enough to the front (`search.study.futility`), is *stopped*, and ends as PRUNED too. All carry
their constraints: TPE reads them, and ranks what is infeasible by how far it is over. Constraints are set last on every
path, so every ended trial has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import optuna

from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.budget import BudgetError
from search.config.errors import ConfigError
from search.config.goal import BEST, COST, LATENCY, OWN_SCORE, Goal
from search.config.schema import BudgetSettings
from search.config.space import Space
from search.study.calibrator import Calibrator, is_uncalibrated
from search.study.evaluator import AfterBlock, Evaluator, Outcome, Part
from search.study.futility import ANSWERED, Futility, packed
from search.study.planned import Planned, planned
from search.study.slopes import Slopes
from search.study.trials import REFUSED, STOPPED

if TYPE_CHECKING:
    from search.config.experiment import Experiment

CONSTRAINT = "bound"  # <= 0: within the bound, in the bound's own unit
PRUNER = "pruner"  # user attribute: what ran, in `Pruner.save`'s form
KEPT = "kept"  # user attribute: what was planned to enter each layer, `Planned.kept_by_layer`
LIMIT = "limit/"  # + a figure's name; <= 0: within its limit
FIGURE = "figure/"  # + the name of a figure that has a limit, as the task gives it
INVALID = 1e6  # how far over a setting counts that no policy accepts

Illustrate = Callable[[optuna.Trial, Pruner, float, float], None]
"""Told of every trial within all bounds, with its cost and score, before it ends."""


@dataclass(frozen=True)
class Answered:
    """All that a trial keeps of its run; `number` is the trial's, `scores` are its samples', packed, where kept."""

    number: int
    score: float
    cost: float
    constraints: Mapping[str, float]
    attributes: Mapping[str, float]
    blocks: tuple[float, ...]
    scores: str | None = None


@dataclass(frozen=True)
class Objective:
    """Callable for optuna: its values and their directions are those of the goal.

    `pruner` makes the pruner of a trial from the values that it chose, by path, and raises ConfigError where it cannot.
    Two trials with the same plan, scorer and recovery give the same answers: the second one takes them over.
    """

    pruner: Callable[[Mapping[str, Any]], Pruner]
    space: Space
    goal: Goal
    bound: BudgetSettings
    evaluator: Evaluator
    known: dict[str, Answered] = field(default_factory=dict)
    calibrator: Calibrator | None = None
    futility: Futility | None = None
    slopes: Slopes | None = None
    illustrate: Illustrate | None = None

    @classmethod
    def of(cls, experiment: "Experiment", evaluator: Evaluator) -> "Objective":
        """The objective of a composed experiment; one that scores without labels needs a `ModelEvaluator`."""
        measured: Any = evaluator
        settings, score = experiment.typed.calibration, experiment.goal.score
        if score != OWN_SCORE:
            from search.study.label_free import label_free, unlabelled  # here: it loads torch

            evaluator, measured = label_free(measured, score), unlabelled(measured)
            settings = replace(settings, labels=False)
        calibrator = Calibrator(measured, settings, experiment.pruner, experiment.stored_pruner)
        parts = experiment.pruner, experiment.space, experiment.goal, experiment.bound, evaluator
        least, n_blocks = experiment.typed.search.least_gain, experiment.typed.search.blocks
        futility = None if least is None else Futility(least, n_blocks, evaluator.kinds)
        slopes = Slopes.of(experiment, evaluator, measured)
        return cls(*parts, calibrator=calibrator, futility=futility, slopes=slopes)

    def calibrate(self, study: optuna.Study, pruner: Pruner) -> Pruner:
        """The pruner, its estimator with the study's numbers where it needs some; measured where there are none yet."""
        return pruner if self.calibrator is None else self.calibrator(study, pruner)

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """The values of a trial; raises TrialPruned for one that is refused or stopped."""
        try:
            pruner = self.pruner(self.space.suggest(trial))
        except ConfigError as error:
            self._end(trial, REFUSED, INVALID, str(error))
        if is_uncalibrated(pruner):
            pruner = self.calibrate(trial.study, pruner)
        bits, geometries = self.evaluator.prompts(pruner)
        try:
            pruner = pruner.calibrated(bits, geometries)
            plan = planned(pruner, bits, geometries)
        except BudgetError as error:
            self._end(trial, REFUSED, error.missing, str(error))
        except ValueError as error:  # the policy gave a shape that is none
            self._end(trial, REFUSED, INVALID, str(error))
        trial.set_user_attr(PRUNER, plain(pruner))
        _note(trial, plan.attributes)
        trial.set_user_attr(KEPT, plan.kept_by_layer)
        over = plan.over(self.bound)
        if self.slopes is not None:
            self.slopes.note(trial, pruner, bits, is_within=over <= 0)
        if over > 0:
            costs = f"plan costs {plan.flops_ratio:.4f} of the unpruned prefill"
            self._end(trial, REFUSED, over, f"{costs}, over the bound")
        if pruner.policy.adaptive:
            _note(trial, {"complexity_mean": float(bits.mean()), "complexity_sd": float(bits.std())})
        answered = self._answer(trial, pruner, plan, over)
        if answered.scores is not None:
            trial.set_user_attr(ANSWERED, answered.scores)
        _note(trial, {**answered.attributes, COST: answered.cost})
        if self.illustrate is not None and max(answered.constraints.values()) <= 0:
            self.illustrate(trial, pruner, answered.cost, answered.score)
        _constrain(trial, answered.constraints)
        return self.goal.values(answered.cost, answered.score)

    def _answer(self, trial: optuna.Trial, pruner: Pruner, plan: Planned, over: float) -> Answered:
        key = plan.key(pruner)
        if pruner.policy.adaptive and self.evaluator.closed_loop:
            key += repr((pruner.policy, pruner.budget))  # the plan is that of some decisions; others may differ
        if key in self.known:
            before = self.known[key]
            trial.set_user_attr("same_as", before.number)
            for block, score in enumerate(before.blocks):
                trial.report(score, block)
            return replace(before, constraints={**before.constraints, CONSTRAINT: over})
        blocks: list[float] = []

        def compared(part: Part) -> None:
            blocks.append(part.outcome.score)
            trial.report(part.outcome.score, part.number)
            if trial.should_prune() and not part.is_last:
                trial.set_user_attr(STOPPED, f"worse than the best trial after {part.number + 1} blocks")
                _note(trial, _scores(part.so_far))
                _constrain(trial, self._constraints(over, self._figures(part.so_far)))
                raise optuna.TrialPruned(trial.user_attrs[STOPPED])

        watched = self._watched(trial, plan, over)
        outcome = self.evaluator.run(pruner, compared if self.goal.mode == BEST else watched)
        cost = self.evaluator.latency(pruner) if self.goal.cost == LATENCY else plan.cost(self.goal.cost, outcome)
        figures = self._figures(outcome)
        noted = _scores(outcome) | {f"{FIGURE}{name}": value for name, value in figures.items()}
        scores = None if self.futility is None else packed(outcome.by_sample)
        constraints = self._constraints(over, figures)
        answered = Answered(trial.number, outcome.score, cost, constraints, noted, tuple(blocks), scores)
        return self.known.setdefault(key, answered)

    def _watched(self, trial: optuna.Trial, plan: Planned, over: float) -> AfterBlock | None:
        """What ends the trial where it cannot add enough to the front; None where nothing does yet."""
        if self.futility is None:
            return None
        watch = self.futility.watch(trial.study, plan.cost(self.goal.cost, plan))
        if watch is None:
            return None
        self.evaluator.deal(watch.blocks)

        def watched(part: Part) -> None:
            scores = part.so_far.by_sample
            if not part.is_last and watch.is_futile(part.number, scores):
                self._end(trial, STOPPED, over, watch.reason(len(scores)))

        return watched

    def _figures(self, outcome: Outcome) -> dict[str, float]:
        """Those with a limit."""
        limits = self.goal.limits
        figures = self.evaluator.figures(outcome) if limits else {}
        return {name: float(figures[name]) for name in limits}

    def _constraints(self, over: float, figures: Mapping[str, float]) -> dict[str, float]:
        limits = self.goal.limits
        return {CONSTRAINT: over} | {f"{LIMIT}{name}": figures[name] - most for name, most in limits.items()}

    def _end(self, trial: optuna.Trial, how: str, over: float, reason: str) -> NoReturn:
        """The limits' figures are unknown: they neither help nor count against the trial."""
        trial.set_user_attr(how, reason)
        _constrain(trial, {CONSTRAINT: over} | {f"{LIMIT}{name}": 0.0 for name in self.goal.limits})
        raise optuna.TrialPruned(reason)


def _scores(outcome: Outcome) -> dict[str, float]:
    kinds = {f"score/{kind}": score for kind, score in outcome.by_kind().items()}
    return {"flops_ratio": outcome.flops_ratio, **kinds}


def _note(trial: optuna.Trial, attributes: Mapping[str, float]) -> None:
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def _constrain(trial: optuna.Trial, constraints: Mapping[str, float]) -> None:
    for name, value in constraints.items():
        trial.set_constraint(name, value)
