"""Ask and tell: a study whose settings another program proposes, and whose results it may tell.

The rules are those of any study. An asked trial belongs to the process that asked. What it leaves untold waits in the
study, and whoever asks next, or runs the study, is given it first. What is told is planned and bounded by arithmetic
like any trial: no told score makes a setting feasible that is over the bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.pruner import Pruner
from search.config.dimension import Values, is_number
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.space import Space
from search.study.cut_off import give_back
from search.study.front import point_of
from search.study.ledger import Ledger
from search.study.loop import former_names
from search.study.objective import CONSTRAINT, Answered, Objective
from search.study.planned import Planned
from search.study.storage import StudyStorage
from search.study.trials import REFUSED, STOPPED, WORKER, Observer, checked, claim, feasible, n_begun

TOLD = "told"  # user attribute: score and cost are another program's, the model did not run


@dataclass(frozen=True)
class Told:
    """What became of told settings: the trial's number, its state as in trials.csv, whether it is within the bound.

    `score` and `cost` are None without a result; `reason` says why a trial was refused or stopped.
    """

    trial: int
    state: str
    feasible: bool
    score: float | None
    cost: float | None
    reason: str | None

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass
class OpenStudy:
    """A study that is open for proposals: `search.open_study`. `opened` makes its objective, with the model."""

    study: optuna.Study
    experiment: Experiment
    worker: str
    opened: Callable[[], Objective]
    observers: Sequence[Observer] = ()

    @cached_property
    def objective(self) -> Objective:
        """Of the model, which is loaded when something is told first."""
        return replace(self.opened(), space=self.space)

    @cached_property
    def space(self) -> Space:
        """What is searched, choices called as the study calls them."""
        return self.experiment.space.asked_by(former_names(self.study))

    @property
    def storage(self) -> StudyStorage:
        """Where it is kept."""
        return StudyStorage.of(self.experiment.typed)

    def mine(self) -> list[FrozenTrial]:
        """Asked here, and not told."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in trials if trial.user_attrs.get(WORKER) == self.worker]

    def put_back(self) -> None:
        """Let what was asked here and never told wait for whoever asks next."""

        def back() -> None:
            for trial in self.mine():
                self.study.tell(trial.number, state=TrialState.FAIL)
            give_back(Ledger(self.study), self.storage.is_dead)

        self.storage.exclusively(back)


def ask(study: OpenStudy) -> Values:
    """Settings to try next, by config path: what waits in the study first, then what its sampler suggests.

    Raises ConfigError where `search.n_trials` have begun.
    """

    def begun() -> Values:
        give_back(Ledger(study.study), study.storage.is_dead)
        _refuse_more(study)
        study.study.sampler = study.experiment.sampler(n_begun(study.study), study.space)
        trial = study.study.ask()
        study.space.suggest(trial)
        claim(trial, study.worker)
        return study.space.settings(trial.params)

    return study.storage.exclusively(begun)


def tell(study: OpenStudy, settings: Mapping[str, Any], score: float | None = None, cost: float | None = None) -> Told:
    """End the trial of these settings, asked for or not, with this score and cost; without, the study measures them.

    `settings` are all that is searched, by config path; `cost` is in the unit of `search.cost`. Raises ConfigError for
    settings outside the space, a number that is none, and where `search.n_trials` have begun. Settings that are over
    the bound end as refused, whatever was told.
    """
    _check_told(study, score, cost)
    names = former_names(study.study)
    given = {path: names.get(str(value), value) for path, value in settings.items()}
    params = study.space.exact(given, study.experiment.settings.config, "settings")
    trial = study.storage.exclusively(lambda: _begin(study, params))
    study.study.pruner = study.experiment.stopper
    try:
        objective: Callable[[optuna.Trial], tuple[float, ...]] = study.objective
        if score is not None and cost is not None:
            trial.set_user_attr(TOLD, True)
            objective = _telling(study.objective, score, cost)
        with get_heartbeat_thread(trial._trial_id, trial.storage):
            values = checked(trial, objective(trial))
        study.study.tell(trial, values)
    except optuna.TrialPruned:
        study.study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        study.put_back()
        raise
    frozen = trial.storage.get_trial(trial._trial_id)
    for observer in study.observers:
        observer(study.study, frozen)
    return _told(study.study, frozen)


@dataclass(frozen=True)
class _ToldObjective(Objective):
    """An objective in everything but the answers: nothing is asked of the model for them."""

    score: float = math.nan
    cost: float = math.nan

    def _answer(self, trial: optuna.Trial, pruner: Pruner, plan: Planned, over: float) -> Answered:
        in_flops = self.goal.cost == "flops_ratio"
        if in_flops and self.bound.flops_ratio is not None:
            over = max(over, self.cost - self.bound.flops_ratio)
        ratio = self.cost if in_flops else plan.flops_ratio
        return Answered(trial.number, self.score, self.cost, {CONSTRAINT: over}, {"flops_ratio": ratio}, ())


def _telling(objective: Objective, score: float, cost: float) -> _ToldObjective:
    parts = {field.name: getattr(objective, field.name) for field in fields(Objective)}
    return _ToldObjective(**parts | {"known": {}, "slopes": None}, score=score, cost=cost)


def _check_told(study: OpenStudy, score: float | None, cost: float | None) -> None:
    for name, value in (("score", score), ("cost", cost)):
        if value is not None and not (is_number(value) and math.isfinite(value)):
            raise ConfigError(f"{name}={value!r} is no finite number: tell one, or settings alone, to be measured")
    if (score is None) != (cost is None):
        raise ConfigError("score and cost are told together: give both, or settings alone, to be measured")
    if score is not None and study.experiment.goal.limits:
        raise ConfigError("search.limits needs figures of the task, which cannot be told: tell settings alone")


def _refuse_more(study: OpenStudy) -> None:
    most = study.experiment.typed.search.n_trials
    if n_begun(study.study) >= most:
        raise ConfigError(f"study '{study.study.study_name}' has begun all of its {most} trials: raise search.n_trials")


def _begin(study: OpenStudy, params: Values) -> optuna.Trial:
    """The trial of these parameters: asked for here, waiting, or new. Only inside `exclusive`."""
    give_back(Ledger(study.study), study.storage.is_dead)
    for asked in study.mine():
        if asked.params == params:
            return optuna.Trial(study.study, asked._trial_id)
    _refuse_more(study)
    waiting = study.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not any(_asks(one, params) for one in waiting):
        new = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params})
        study.study.add_trial(new)
        waiting = study.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    found = next(one for one in waiting if _asks(one, params))
    study.study.sampler = study.experiment.sampler(n_begun(study.study), study.space)
    storage = study.study._storage
    storage.set_trial_state_values(found._trial_id, state=TrialState.RUNNING)  # as optuna takes the first that waits
    trial = optuna.Trial(study.study, found._trial_id)
    study.space.suggest(trial)
    claim(trial, study.worker)
    return trial


def _asks(waiting: FrozenTrial, params: Values) -> bool:
    return bool(waiting.system_attrs.get("fixed_params") == params)


def _told(study: optuna.Study, trial: FrozenTrial) -> Told:
    cost, score = point_of(trial) if trial.state == TrialState.COMPLETE else (None, None)
    within = any(one.number == trial.number for one in feasible(study))
    reason = trial.user_attrs.get(REFUSED) or trial.user_attrs.get(STOPPED)
    return Told(trial.number, trial.state.name.lower(), within, score, cost, reason)
