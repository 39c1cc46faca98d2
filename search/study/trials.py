"""A study's trials: how many count, which are within the bound, and those that were cut off, to be run again.

A trial is cut off when its worker dies in it, by kill -9 or by Ctrl-C. It ends as FAIL, and the same settings wait in a
new trial that carries RETRY. A score that is no number is a FAIL as well, but a result: it carries NO_RESULT.
"""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from search.study.ledger import Ledger

RETRY = "retry_of"  # number of the trial that this one repeats
WORKER = "worker"  # who runs it; set once its settings are complete
NO_RESULT = "no_result"

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


def give_back(ledger: "Ledger", is_dead: Callable[[str | None], bool]) -> None:
    """Queue every trial that was cut off again, once. Only inside `StudyStorage.exclusive`.

    Whoever dies in here leaves nothing half done: what is missing is seen from the trials, by the next one who asks.
    """
    study = ledger.study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in ledger.look().running:
        if is_dead(trial.user_attrs.get(WORKER)):
            study.tell(trial.number, state=TrialState.FAIL)
    for trial in ledger.look().lost:
        _queue_again(study, trial)


def _queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """The same settings in a new trial. It gets the sampler's own notes (a generation, say), but no result.

    The old trial's constraint least of all: optuna would keep it and ignore the new one. A trial that nobody owned
    had not all of its settings yet: the sampler is asked again from the beginning, and says the same again.
    """
    owned = WORKER in trial.user_attrs
    notes = {key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")}
    fixed = {**notes.pop("fixed_params", {}), **(trial.params if owned else {})}
    label = {key: value for key, value in trial.user_attrs.items() if key == "baseline"}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            system_attrs={**(notes if owned else {}), "fixed_params": fixed},
            user_attrs={**label, RETRY: trial.number},
        )
    )
