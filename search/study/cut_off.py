"""Trials that were cut off are queued again: `search.study.trials` says what that means."""

import warnings
from collections.abc import Callable

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.study.ledger import Ledger
from search.study.trials import RETRY, WORKER


def give_back(ledger: Ledger, is_dead: Callable[[str | None], bool]) -> None:
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
