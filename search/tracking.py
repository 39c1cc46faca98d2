"""MLflow: a study is a parent run, a trial a child run, the front its artifacts. Nobody else knows MLflow."""

import logging
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.config import Settings, fields_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
NUMBER = "trial"


@dataclass(frozen=True)
class MlflowTracking:
    """Where runs go: an MLflow tracking URI, an experiment's name, and a folder for its artifacts."""

    uri: str
    experiment: str = "autoprune"
    artifacts: str | None = None

    def begin(self, study: optuna.Study, settings: Settings) -> "StudyRun":
        """Open the study's run, or the one it had before, and log the trials that are not there yet."""
        client = self._client()
        found = client.get_experiment_by_name(self.experiment)
        place = Path(self.artifacts).resolve().as_uri() if self.artifacts else None
        experiment = found.experiment_id if found else client.create_experiment(self.experiment, place)
        run = StudyRun(client, str(experiment), self._parent(client, str(experiment), study, settings))
        run.catch_up(study)
        return run

    def _client(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default waits minutes for a dead server
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.uri)

    def _parent(self, client: "MlflowClient", experiment: str, study: optuna.Study, settings: Settings) -> str:
        known = study.user_attrs.get("mlflow", {}).get(self.uri)
        if known is not None and _exists(client, known):
            client.update_run(known, status="RUNNING")
            return str(known)
        run = client.create_run(experiment, run_name=study.study_name, tags={"kind": "study"})
        run_id = str(run.info.run_id)
        values = {path: _select(settings, path) for path in fields_of(settings.config)}
        client.log_batch(run_id, params=_params(values))
        client.log_dict(run_id, dict(study.user_attrs.get("settings", {})), "settings.json")
        study.set_user_attr("mlflow", {**study.user_attrs.get("mlflow", {}), self.uri: run_id})
        return run_id


@dataclass(frozen=True)
class StudyRun:
    """The open run of one study; called with every trial that ends."""

    client: "MlflowClient"
    experiment: str
    run_id: str

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log one trial as a child run: three requests."""
        from mlflow.entities import Metric

        refused = trial.state == TrialState.PRUNED
        tags = {PARENT: self.run_id, NUMBER: str(trial.number), "kind": "trial", "state": trial.state.name}
        tags |= {key: str(trial.user_attrs[key]) for key in ("refused", "baseline") if key in trial.user_attrs}
        start = _milliseconds(trial.datetime_start)
        run = self.client.create_run(self.experiment, start_time=start, run_name=f"trial {trial.number}", tags=tags)
        now = _milliseconds(trial.datetime_complete)
        metrics = [Metric(key, value, now, 0) for key, value in _metrics(trial).items()]
        self.client.log_batch(run.info.run_id, metrics=metrics, params=_params(trial.params))
        status = "KILLED" if refused else "FINISHED" if trial.state == TrialState.COMPLETE else "FAILED"
        self.client.set_terminated(run.info.run_id, status=status, end_time=now)

    def catch_up(self, study: optuna.Study) -> None:
        """Log every ended trial that has no run yet."""
        logged: set[str] = set()
        token: str | None = None
        while token != "":
            page = self.client.search_runs(
                [self.experiment], f"tags.`{PARENT}` = '{self.run_id}'", max_results=1000, page_token=token
            )
            logged |= {str(run.data.tags.get(NUMBER)) for run in page}
            token = page.token or ""
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished() and str(trial.number) not in logged:
                self(study, trial)

    def end(self, files: Mapping[str, Path], metrics: Mapping[str, float], finished: bool) -> None:
        """Attach the study's files under their folders and close the run."""
        from mlflow.entities import Metric

        for name, file in files.items():
            folder = Path(name).parent.as_posix()
            self.client.log_artifact(self.run_id, str(file), None if folder == "." else folder)
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(k, v, now, 0) for k, v in metrics.items()])
        self.client.set_terminated(self.run_id, status="FINISHED" if finished else "KILLED")


def _metrics(trial: FrozenTrial) -> dict[str, float]:
    values = dict(zip(("flops_ratio", "score"), trial.values or (), strict=False))
    values |= {f"constraint/{key}": value for key, value in trial.constraints.items()}
    numbers = {k: v for k, v in trial.user_attrs.items() if isinstance(v, float) and k != "planned_ratio"}
    return values | numbers


def _params(values: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, str(value)[:6000]) for key, value in values.items()]


def _select(settings: Settings, path: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.select(settings.config, path)


def _milliseconds(moment: Any) -> int:
    return int((moment.timestamp() if moment is not None else time.time()) * 1000)


def _exists(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True
