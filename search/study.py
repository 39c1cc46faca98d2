"""Builds, resumes and runs an optuna study; every finished trial is on disk before the next one starts."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from search.config import ConfigError, Settings, fields_of
from search.objective import Objective
from search.space import Values

JOURNAL = "journal.log"
RETRY = "retry_of"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FREE = ("study", "folder", "out", "batch_size", "report", "tracking", "search.n_trials", "model.device")

Observer = Callable[[optuna.Study, FrozenTrial], None]


def settings_print(settings: Settings, weights: str = "") -> dict[str, Any]:
    """All settings that a trial's result depends on, by path; two runs of one study must agree in them."""
    from omegaconf import OmegaConf

    plain = {path: OmegaConf.select(settings.config, path) for path in fields_of(settings.config)}
    plain["search.baselines"] = settings.typed.search.baselines
    plain["space"] = OmegaConf.to_container(settings.config.space)
    kept = {
        path: value
        for path, value in plain.items()
        if not path.startswith(("space.", "search.baselines."))
        and not any(path == free or path.startswith(f"{free}.") for free in FREE)
    }
    return dict(json.loads(json.dumps(kept | {"model.weights": weights})))


def existing(out: Path, name: str) -> optuna.Study | None:
    """The study of that name in the folder, if there is one; creates nothing."""
    if not (out / JOURNAL).is_file():
        return None
    try:
        return optuna.load_study(study_name=name, storage=_storage(out))
    except KeyError:
        return None


def check_same(study: optuna.Study, now: Mapping[str, Any]) -> None:
    """Raise ConfigError naming what differs, if the study was made with other settings."""
    then = study.user_attrs.get("settings", {})
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if differing:
        shown = "; ".join(f"{key} was {then.get(key)!r}, now {now.get(key)!r}" for key in differing[:2])
        more = f" and {len(differing) - 2} more" if len(differing) > 2 else ""
        raise ConfigError(
            f"study '{study.study_name}' was made with other settings: {shown}{more}; "
            "take another name with study=NAME, or start over with --fresh (the old one is kept aside)"
        )


def open_study(out: Path, name: str, settings: Mapping[str, Any]) -> optuna.Study:
    """Create the study, or resume it: a trial that was cut off is queued again."""
    out.mkdir(parents=True, exist_ok=True)
    study = existing(out, name)
    if study is None:
        study = optuna.create_study(study_name=name, storage=_storage(out), directions=["minimize", "maximize"])
        study.set_user_attr("settings", dict(settings))
    check_same(study, settings)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # killed; nobody else works on this study
        study.tell(trial.number, state=TrialState.FAIL)
        _queue_again(study, trial)
    return study


def enqueue(study: optuna.Study, baselines: Sequence[Values]) -> None:
    """Ask for the baselines first, each once in the life of the study."""
    known = {trial.user_attrs.get("baseline") for trial in study.get_trials(deepcopy=False)}
    for i, baseline in enumerate(baselines):
        if i not in known:
            study.enqueue_trial(baseline, user_attrs={"baseline": i})


def n_ended(study: optuna.Study) -> int:
    """Trials that count towards `n_trials`: those that ended, a cut-off one not beside its repetition."""
    trials = study.get_trials(deepcopy=False)
    ended = sum(trial.state in ENDED for trial in trials)
    return ended - sum(RETRY in trial.user_attrs for trial in trials)


def run(
    study: optuna.Study,
    objective: Objective,
    settings: Settings,
    observers: Sequence[Observer] = (),
) -> None:
    """Run trials until `search.n_trials` have ended.

    Every trial gets a new sampler, seeded by `seed` and the number of trials before it: the sampler's only
    memory is the study itself, so a resumed study goes on exactly as if it had never stopped.
    """
    wanted, done = settings.typed.search.n_trials, n_ended(study)
    with tqdm(total=wanted, initial=min(done, wanted), desc=study.study_name, unit="trial", disable=None) as bar:
        bar.set_postfix_str(best_line(study))
        while done < wanted:
            study.sampler = _sampler(settings, done)
            _run_one(study, objective, observers)
            done += 1
            bar.update()
            bar.set_postfix_str(best_line(study))


def feasible(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials within the bound, in order of their number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    within = [t for t in trials if t.constraints and max(t.constraints.values()) <= 0]
    return sorted(within, key=lambda trial: trial.number)


def best_line(study: optuna.Study) -> str:
    """The best score within the bound, and its cost."""
    trials = feasible(study)
    if not trials:
        return "nothing within the bound yet"
    best = max(trials, key=lambda trial: (trial.values[1], -trial.values[0]))
    return f"best score {best.values[1]:.3f} at FLOPs ratio {best.values[0]:.3f}"


def _run_one(study: optuna.Study, objective: Objective, observers: Sequence[Observer]) -> None:
    """One trial; Ctrl-C or an error in the middle of it queues it again before it goes on its way."""
    begun: list[int] = []

    def noted(trial: optuna.Trial) -> tuple[float, float]:
        begun.append(trial.number)
        return objective(trial)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.optimize(noted, n_trials=1, callbacks=list(observers))
    except BaseException:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if trial.number in begun:
                _queue_again(study, trial)
        raise


def _queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """The same settings in a new trial. It gets the sampler's own notes (a generation, say), but no result.

    The old trial's constraint least of all: optuna would keep it and ignore the new one.
    """
    notes = {key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")}
    settings = {**notes.get("fixed_params", {}), **trial.params}
    label = {key: value for key, value in trial.user_attrs.items() if key == "baseline"}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            system_attrs={**notes, "fixed_params": settings},
            user_attrs={**label, RETRY: trial.number},
        )
    )


def _sampler(settings: Settings, done: int) -> optuna.samplers.BaseSampler:
    node = dict(settings.typed.search.sampler)
    if node.get("seed") is not None:
        node["seed"] = (int(node["seed"]) * 1_000_003 + done) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = instantiate(node, _convert_="all")
    assert isinstance(sampler, optuna.samplers.BaseSampler)
    return sampler


def _storage(out: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(out / JOURNAL)))
