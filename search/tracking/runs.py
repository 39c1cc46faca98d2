"""A study's run in MLflow: found by the study's key, or made; with its settings, and the child runs that it has."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import optuna

from search.config.paths import leaves
from search.results.folder import read_config
from search.results.provenance import PROVENANCE, tags_of
from search.tracking.client import connect
from search.tracking.fields import safe, text
from search.tracking.settings import KEY, RUNNING, MlflowTracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
BATCH, PAGE = 100, 1000  # params or tags, and metrics or runs, that MLflow takes in one request
Item = TypeVar("Item")


@dataclass
class StudyRun:
    """An open run; `whole` and `halves` are the runs of its trials, ended and only begun."""

    client: "MlflowClient"
    experiment: str
    run_id: str
    status: str
    whole: dict[int, str]
    halves: dict[int, str]
    step: int


def open_run(study: optuna.Study, target: MlflowTracking, folder: Path) -> StudyRun:
    """Find or make the study's run, send its settings as far as they are missing, read what it has."""
    if KEY not in study.user_attrs:
        study.set_user_attr(KEY, uuid.uuid4().hex)
    key = study.user_attrs[KEY]
    client, experiment = connect(target)
    wanted = f"tags.kind = 'study' and tags.study_key = '{key}'"
    found = client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"])
    tags = {"kind": "study", "study": study.study_name, "study_key": key}
    run = found[0] if found else client.create_run(experiment, run_name=study.study_name, tags=tags)
    _send_settings(client, run, study, folder)
    whole, halves = _read_children(client, experiment, run.info.run_id)
    history = client.get_metric_history(run.info.run_id, "feasible_trials")
    step = max((metric.step for metric in history), default=-1)
    return StudyRun(client, experiment, str(run.info.run_id), str(run.info.status), whole, halves, step)


def chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _send_settings(client: "MlflowClient", run: "Run", study: optuna.Study, folder: Path) -> None:
    """Params, each once, for MLflow lets none change; tags as they are now."""
    from mlflow.entities import Param, RunTag

    values = {safe(path): text(value) for path, value in leaves(read_config(folder)).items()}
    missing = [Param(key, value) for key, value in values.items() if key not in run.data.params]
    for some in chunks(missing, BATCH):
        client.log_batch(run.info.run_id, params=some)
    tags = tags_of(study.user_attrs.get(PROVENANCE, []))
    client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _read_children(client: "MlflowClient", experiment: str, parent: str) -> tuple[dict[int, str], dict[int, str]]:
    """Runs of trials, ended and only begun. Of two runs of one trial (machines that share no folder) one goes."""
    whole: dict[int, str] = {}
    halves: dict[int, str] = {}
    for run in runs_where(client, experiment, f"tags.`{PARENT}` = '{parent}'"):
        number = int(run.data.tags["trial"])
        if number in whole or number in halves:
            client.delete_run(run.info.run_id)
        else:
            (halves if run.info.status == RUNNING else whole)[number] = str(run.info.run_id)
    return whole, halves


def runs_where(client: "MlflowClient", experiment: str, condition: str) -> "Iterator[Run]":
    """Every run of the experiment that meets the condition, page by page, in the same order for everybody."""
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    token: str | None = None
    while token != "":
        page = client.search_runs([experiment], condition, max_results=PAGE, order_by=order, page_token=token)
        yield from page
        token = page.token or ""
