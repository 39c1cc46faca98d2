"""Opens MLflow: quietly, with short time limits, and safely when several processes are the first to use a database."""

import logging
import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from search.config import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from search.tracking import MlflowTracking

# MLflow waits 246 s for a server that refuses connections, and longer for one that never answers. We try again anyway.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def prepare() -> None:
    """Set what the user has not set, before MLflow is imported. Call it from the main thread."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy|pydantic)\b")


def connect(target: "MlflowTracking") -> "tuple[MlflowClient, str]":
    """A client and the experiment's id; a database is made by one process while others wait."""
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if target.database is not None:
        target.database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target.database}.lock") if target.database else nullcontext():
        client = MlflowClient(tracking_uri=target.uri)
        return client, _experiment(client, target)


def reason(error: BaseException) -> str:
    """Why it failed, in a few words."""
    link: BaseException | None = error
    while link is not None:
        name = type(link).__name__
        if isinstance(link, ConnectionRefusedError) or "Connection refused" in str(link):
            return "connection refused"
        if "Timeout" in name:
            return "no answer in time"
        if name == "NameResolutionError" or "NameResolutionError" in str(link):
            return "unknown host"
        link = link.__cause__ or link.__context__
    return without_password(" ".join(str(error).split()))[:160] or type(error).__name__


def _experiment(client: "MlflowClient", target: "MlflowTracking") -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(target.experiment)
    if found is None:
        place = Path(target.artifacts).as_uri() if target.artifacts else None
        try:
            return str(client.create_experiment(target.experiment, place))
        except MlflowException:  # another machine was faster
            found = client.get_experiment_by_name(target.experiment)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)
