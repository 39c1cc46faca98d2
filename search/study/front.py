"""A study's front, as it stands in optuna's storage."""

import math

import optuna
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.fronts.front import ParetoFront
from search.study.trials import RETRY, STOPPED, feasible


def from_study(study: optuna.Study) -> ParetoFront:
    """The non-dominated trials within the bound, labelled by trial number.

    `left_out` counts the rest: those over a bound, failed and stopped ones without a result, unless they ran again.
    """
    within = {trial.number for trial in feasible(study)}
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs[RETRY] for trial in trials if RETRY in trial.user_attrs}
    ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in again]
    points = [point_of(trial) for trial in ended]
    return ParetoFront.of(
        [cost for cost, _ in points],
        [score for _, score in points],
        [trial.number for trial in ended],
        [trial.number in within or trial.state == TrialState.FAIL or STOPPED in trial.user_attrs for trial in ended],
    )


def point_of(trial: FrozenTrial) -> tuple[float, float]:
    """(cost, score) of a trial, NaN without a result; with one objective, the score, the cost is an attribute."""
    *cost, score = trial.values or (math.nan, math.nan)
    return float(cost[0] if cost else trial.user_attrs.get("cost", math.nan)), float(score)
