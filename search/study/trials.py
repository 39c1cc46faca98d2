"""A study's trials: how many count, which are within the bound, and those that were cut off, to be run again.

A trial is cut off when its worker dies in it, by kill -9 or by Ctrl-C. It ends as FAIL, and the same settings wait in a
new trial that carries RETRY. A score that is no number is a FAIL as well, but a result: it carries NO_RESULT.
"""

import math
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

RETRY = "retry_of"  # number of the trial that this one repeats
WORKER = "worker"  # who runs it; set once its settings are complete
NO_RESULT = "no_result"
REFUSED, STOPPED = "refused", "stopped"  # user attributes: why a trial ended without a result

Observer = Callable[[optuna.Study, FrozenTrial], None]  # told of every trial that has ended; must not raise


def n_ended(study: optuna.Study) -> int:
    """Trials that count towards `n_trials`: those with a result, refused ones, and scores that are no number."""
    return sum(not was_cut_off(trial) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())


def n_begun(study: optuna.Study) -> int:
    """The same and those under way; read at one moment, for a trial may end between two."""
    trials = study.get_trials(deepcopy=False)
    return sum(not was_cut_off(t) for t in trials if t.state.is_finished() or t.state == TrialState.RUNNING)


def feasible(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials within the bound, in order of their number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(filter(is_feasible, trials), key=lambda trial: trial.number)


def is_feasible(trial: FrozenTrial) -> bool:
    """Is it complete and within the bound?"""
    constraints = trial.constraints
    return trial.state == TrialState.COMPLETE and bool(constraints) and max(constraints.values()) <= 0


def was_cut_off(trial: FrozenTrial) -> bool:
    """Did its worker die in it?"""
    return trial.state == TrialState.FAIL and NO_RESULT not in trial.user_attrs


def claim(trial: optuna.Trial, worker: str) -> None:
    """Make the trial, which has all of its settings, the worker's own; a first sign of life where they are kept."""
    storage = trial.storage
    if getattr(storage, "get_heartbeat_interval", lambda: None)() is not None:
        storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    trial.set_user_attr(WORKER, worker)


def is_running(trial: optuna.Trial) -> bool:
    """Is the trial still its worker's own? Not if it was thought dead."""
    return trial.storage.get_trial(trial._trial_id).state == TrialState.RUNNING


def checked(trial: optuna.Trial, values: tuple[float, ...] | float) -> tuple[float, ...] | float:
    """The values, having noted in the trial if one is no number."""
    if any(math.isnan(value) for value in (values if isinstance(values, tuple) else (values,))):
        trial.set_user_attr(NO_RESULT, True)
    return values
