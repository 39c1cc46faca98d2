"""Builds, resumes and runs an optuna study; every finished trial is on disk before the next one starts."""

import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from autoprune_lab.plugins.renamed import former, renamed
from search.config.compose import ConfigError, Settings, fields_of
from search.config.dimension import Values
from search.config.goal import Goal
from search.study.diff import difference
from search.study.objective import Objective
from search.study.outages import SectionLostError, StorageError, link
from search.study.progress import watching
from search.study.samplers import sampler, stopper
from search.study.storage import MISSED_BEATS, PATIENCE, StudyStorage
from search.study.trials import WORKER, Observer, checked, claim, give_back, is_running, n_begun, n_ended

FREE = (
    *("study", "folder", "out", "cache", "report", "tracking", "launcher", "model.device", "model.strict"),
    *("batch_size", "features_gib", "prefix_gib"),
    *("search.n_trials", "search.storage", "search.workers", "search.heartbeat", "search.patience"),
)
SETTINGS = "settings"  # what the study is made of, and how it says it
WORDS = "words"  # what a worker elsewhere needs to know, as it would be said on the command line
LAST_ONES = 0.5  # seconds between two looks whether the other workers' last trials have ended
LOOKS = 20  # so many before it is said for whom a worker waits


def is_free(path: str) -> bool:
    """May this setting differ between two runs of one study?"""
    return any(path == free or path.startswith(f"{free}.") for free in FREE)


def settings_print(settings: Settings, weights: str = "") -> dict[str, Any]:
    """All settings that a trial's result depends on, by path; two runs of one study must agree in them."""
    from omegaconf import OmegaConf

    plain = {path: OmegaConf.select(settings.config, path) for path in fields_of(settings.config)}
    plain["search.baselines"] = settings.typed.search.baselines
    plain["space"] = OmegaConf.to_container(settings.config.space)
    kept = {
        path: value
        for path, value in plain.items()
        if not path.startswith(("space.", "search.baselines.")) and not is_free(path)
    }
    return dict(json.loads(json.dumps(kept | {"model.weights": weights})))


def existing(out: Path, name: str, url: str | None = None, patience: float = PATIENCE) -> optuna.Study | None:
    """The study of that name in the folder or database, if there is one; creates nothing."""
    place = StudyStorage(out, name, url, patience=patience)
    return place.alone(lambda: _load(place)) if place.exists() else None


def check_same(study: optuna.Study, now: Mapping[str, Any]) -> None:
    """Raise ConfigError naming what differs, if the study was made with other settings."""
    then = study.user_attrs.get(SETTINGS, {})
    if differs := difference(renamed(then), now):
        raise ConfigError(
            f"study '{study.study_name}' was made with other settings: {differs}; "
            "take another name with study=NAME, or start over with --fresh (the old one is kept aside)"
        )


def open_study(
    out: Path,
    name: str,
    settings: Mapping[str, Any],
    url: str | None = None,
    heartbeat: int = 60,
    patience: float = PATIENCE,
) -> optuna.Study:
    """Create the study, or resume it: a trial whose worker died is queued again, one of a living worker is not."""
    place = StudyStorage(out, name, url, heartbeat, patience)
    place.make()

    def opened() -> optuna.Study:
        study = _load(place)
        goal = Goal(settings["search.mode"], settings["search.cost"])
        if study is None:
            study = optuna.create_study(study_name=name, storage=place.open(), directions=goal.directions)
        if SETTINGS not in study.user_attrs:  # also where the first one died in between
            _name_values(study, goal)
            study.set_user_attr(SETTINGS, dict(settings))
        check_same(study, settings)
        give_back(study, place.is_dead)
        place.presence.sweep()
        return study

    return place.alone(opened)


def enqueue(study: optuna.Study, baselines: Sequence[Values]) -> None:
    """Ask for the baselines first, each once in the life of the study."""
    known, names = {trial.user_attrs.get("baseline") for trial in study.get_trials(deepcopy=False)}, _names(study)
    for i, baseline in enumerate(baselines):
        if i not in known:
            asked = {path: names.get(str(value), value) for path, value in baseline.items()}
            study.enqueue_trial(asked, user_attrs={"baseline": i})


def run(
    study: optuna.Study,
    objective: Objective,
    settings: Settings,
    observers: Sequence[Observer] = (),
) -> None:
    """Run trials until `search.n_trials` have ended, beside any other worker who does the same.

    Every trial gets a new sampler, seeded by `seed` and the number of trials before it: the sampler's only
    memory is the study itself, so a resumed study goes on exactly as if it had never stopped. Workers ask one
    after the other, so no two trials have one seed, and no trial too many is begun.
    """
    place, wanted = StudyStorage.of(settings), settings.typed.search.n_trials
    objective = replace(objective, space=objective.space.asked_by(_names(study)))
    with place.presence.enter() as worker, watching(study, wanted, observers) as look:
        idle = 0
        while n_ended(study) < wanted:
            try:
                idle = 0 if _run_one(study, objective, settings, worker) else idle + 1
            except SectionLostError:  # nothing had been run; whoever is in the section next sees what is there
                continue
            if idle == LOOKS:
                _tell_wait(study, place)
            if idle:
                time.sleep(LAST_ONES)  # the others are at the last ones; one of them may die
            look()


def _tell_wait(study: optuna.Study, place: StudyStorage) -> None:
    """For whom a worker waits that finds nothing to begin."""
    others = [trial.user_attrs.get(WORKER, "?") for trial in study.get_trials(False, (TrialState.RUNNING,))]
    print(
        f"autoprune: {place.name}: no trial is left to begin; waiting for the last ones, of {', '.join(others)}"
        + (f" (who count as dead after {MISSED_BEATS * place.heartbeat} s of silence)" if place.url else ""),
        file=sys.stderr,
    )


def _run_one(study: optuna.Study, objective: Objective, settings: Settings, worker: str) -> bool:
    """One trial, unless those under way are the last ones.

    Whatever stops it in the middle, Ctrl-C or an error, it is queued again before that goes on its way.
    """
    place, lost = StudyStorage.of(settings), False

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
        asking.enter_context(place.exclusive())
        give_back(study, place.is_dead)
        before = n_begun(study)
        if before >= settings.typed.search.n_trials:
            return False
        study.sampler, study.pruner = sampler(settings, objective.space, before), stopper(settings)
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
            place.alone(lambda: give_back(study, place.is_dead))
            raise
    return True


def _name_values(study: optuna.Study, goal: Goal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(goal.names)


def _names(study: optuna.Study) -> dict[str, str]:
    """The names that a study of before has for code, by those of now: no storage lets a study's choices change."""
    return former(study.user_attrs.get(SETTINGS, {}).get("space"))


def _load(place: StudyStorage) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=place.name, storage=place.open())
    except KeyError:
        return None
