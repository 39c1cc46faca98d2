"""Builds, resumes and runs an optuna study; every finished trial is on disk before the next one starts."""

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import TrialState

from autoprune_lab.plugins.renamed import former, renamed
from search.config.dimension import Values
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.goal import Goal
from search.config.identity import SAMPLER, difference, options_of_then, search_of
from search.study.cut_off import give_back
from search.study.ledger import Ledger
from search.study.objective import Objective
from search.study.outages import SectionLostError, StorageError, link
from search.study.progress import watching
from search.study.storage import MISSED_BEATS, StudyStorage
from search.study.trials import WORKER, Observer, checked, claim, is_running

SETTINGS = "settings"  # what the study is made of, and how it says it
WORDS = "words"  # what a worker elsewhere needs to know, as it would be said on the command line
LAST_ONES = 0.5  # seconds between two looks whether the other workers' last trials have ended
LOOKS = 20  # so many before it is said for whom a worker waits


def existing(storage: StudyStorage) -> optuna.Study | None:
    """The study that is kept there, if there is one; creates nothing."""
    return storage.exclusively(lambda: _load(storage)) if storage.exists() else None


def check_same(study: optuna.Study, now: Mapping[str, Any]) -> None:
    """Raise ConfigError naming what differs, if the study was made with other settings."""
    then = renamed(study.user_attrs.get(SETTINGS, {}))
    if words := options_of_then(then, now):  # a policy was added to the shelf, say
        raise ConfigError(
            f"study '{study.study_name}' was begun with other options than there are now: "
            f"go on with {' '.join(words)}, or take another name with study=NAME"
        )
    if differs := difference(then, now):
        searched = search_of(then) if then.get(SAMPLER) != now.get(SAMPLER) else []
        goes_on = "".join(f"{word} goes on with its search; else " for word in searched)
        raise ConfigError(
            f"study '{study.study_name}' was made with other settings: {differs}; {goes_on}"
            "take another name with study=NAME, or start over with --fresh (the old one is kept aside)"
        )


def open_study(storage: StudyStorage, made_of: Mapping[str, Any]) -> optuna.Study:
    """Create the study, or resume it: a trial whose worker died is queued again, one of a living worker is not.

    `made_of`: what all runs of it must agree in (`search.config.identity`). Raises ConfigError where they do not.
    """
    storage.make()

    def opened() -> optuna.Study:
        study = _load(storage)
        goal = Goal(made_of["search.mode"], made_of["search.cost"])
        if study is None:
            study = optuna.create_study(study_name=storage.name, storage=storage.open(), directions=goal.directions)
        if SETTINGS not in study.user_attrs:  # also where the first one died in between
            _name_values(study, goal)
            study.set_user_attr(SETTINGS, dict(made_of))
        check_same(study, made_of)
        give_back(Ledger(study), storage.is_dead)
        storage.liveness.sweep()
        return study

    return storage.exclusively(opened)


def enqueue(study: optuna.Study, baselines: Sequence[Values]) -> None:
    """Ask for the baselines first, each once in the life of the study."""
    known, names = {trial.user_attrs.get("baseline") for trial in study.get_trials(deepcopy=False)}, former_names(study)
    for i, baseline in enumerate(baselines):
        if i not in known:
            asked = {path: names.get(str(value), value) for path, value in baseline.items()}
            study.enqueue_trial(asked, user_attrs={"baseline": i})


def run(
    study: optuna.Study,
    objective: Objective,
    experiment: Experiment,
    observers: Sequence[Observer] = (),
) -> None:
    """Run trials until `search.n_trials` have ended, beside any other worker who does the same.

    Every trial gets a new sampler, seeded by `seed` and the number of trials before it: the sampler's only
    memory is the study itself, so a resumed study goes on exactly as if it had never stopped. Workers ask one
    after the other, so no two trials have one seed, and no trial too many is begun.
    """
    storage, wanted = StudyStorage.of(experiment.typed), experiment.typed.search.n_trials
    objective = replace(objective, space=objective.space.asked_by(former_names(study)))
    ledger = Ledger(study).look()
    if ledger.n_ended < wanted:
        objective.calibrate(study, experiment.pruner())
    with storage.liveness.enter() as worker, watching(study, wanted, observers) as look:
        idle = 0
        while ledger.look().n_ended < wanted:
            try:
                idle = 0 if _run_one(ledger, objective, experiment, worker) else idle + 1
            except SectionLostError:  # nothing had been run; whoever is in the section next sees what is there
                continue
            if idle == LOOKS:
                _tell_wait(study, storage)
            if idle:
                time.sleep(LAST_ONES)  # the others are at the last ones; one of them may die
            look()


def _tell_wait(study: optuna.Study, storage: StudyStorage) -> None:
    """For whom a worker waits that finds nothing to begin."""
    others = [trial.user_attrs.get(WORKER, "?") for trial in study.get_trials(False, (TrialState.RUNNING,))]
    print(
        f"autoprune: {storage.name}: no trial is left to begin; waiting for the last ones, of {', '.join(others)}"
        + (f" (who count as dead after {MISSED_BEATS * storage.heartbeat} s of silence)" if storage.url else ""),
        file=sys.stderr,
    )


def _run_one(ledger: Ledger, objective: Objective, experiment: Experiment, worker: str) -> bool:
    """One trial, unless those under way are the last ones.

    Whatever stops it in the middle, Ctrl-C or an error, it is queued again before that goes on its way.
    """
    study, storage, lost = ledger.study, StudyStorage.of(experiment.typed), False

    def begun(trial: optuna.Trial) -> tuple[float, ...] | float:
        nonlocal lost
        with asking.pop_all():  # what fails in here must not be told to optuna inside the section
            objective.space.suggest(trial)  # the next one who asks is told what this one tries
            claim(trial, worker)
        try:
            return checked(trial, objective(trial))
        finally:
            lost = not is_running(trial)

    with ExitStack() as asking:
        asking.enter_context(storage.exclusive())
        give_back(ledger, storage.is_dead)
        before = ledger.look().n_begun
        if before >= experiment.typed.search.n_trials:
            return False
        study.sampler, study.pruner = experiment.sampler(before, objective.space), experiment.stopper
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.optimize(begun, n_trials=1)
        except BaseException as error:
            late = link(error, optuna.exceptions.UpdateFinishedTrialError) is not None
            if (lost or late) and isinstance(error, Exception):  # so long silent that another worker has the trial now
                return True
            asking.close()
            if (refusal := link(error, StorageError)) is not None:  # optuna stumbles over it, and says something else
                raise refusal from refusal.__cause__
            storage.exclusively(lambda: give_back(ledger, storage.is_dead))
            raise
    return True


def _name_values(study: optuna.Study, goal: Goal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(goal.names)


def former_names(study: optuna.Study) -> dict[str, str]:
    """The names that a study of before has for code, by those of now: no storage lets a study's choices change."""
    return former(study.user_attrs.get(SETTINGS, {}).get("space"))


def _load(storage: StudyStorage) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=storage.name, storage=storage.open())
    except KeyError:
        return None
