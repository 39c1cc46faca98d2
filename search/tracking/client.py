"""Opens MLflow: quietly, with short time limits, and safely when several processes are the first to use a database."""

import logging
import os
import sqlite3
import uuid
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from search.config.errors import ConfigError, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from search.tracking.settings import MlflowTracking

# MLflow waits 246 s for a server that refuses connections, and longer for one that never answers. We try again anyway.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it shows a traceback for every error that it raises
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
HALF = ".making-"  # + letters: the ending of a database that is not whole yet


def prepare() -> None:
    """Set what the user has not set, before MLflow is imported. Call it from the main thread."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy|pydantic)\b")


def connect(target: "MlflowTracking") -> "tuple[MlflowClient, str]":
    """A client and the experiment's id; a database is made by one process while others wait."""
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if target.database is not None:
        target.database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target.database}.lock") if target.database else nullcontext():
        if target.database is not None:
            make(target.database, str(target.artifacts))
            follow(target.database, Path(str(target.artifacts)), target.experiment)
        client = MlflowClient(tracking_uri=target.uri)
        return client, _experiment(client, target)


def make(database: Path, artifacts: str) -> None:
    """Make MLflow's SQLite file where there is none, or an empty one: under another name, which it loses when whole.

    MLflow makes it in hundreds of steps, and cannot go on with one that was cut off between two of them. Only under
    the database's lock; whatever others left half made is removed.
    """
    for half in database.parent.glob(f"{database.name}{HALF}*"):
        half.unlink(missing_ok=True)
    if database.is_file() and database.stat().st_size > 0:
        return _check_whole(database)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    half = database.with_name(f"{database.name}{HALF}{uuid.uuid4().hex[:8]}")
    store = SqlAlchemyStore(f"sqlite:///{half}", artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()  # every connection is closed, so that nothing is left beside the file
    with half.open("rb") as stream:
        os.fsync(stream.fileno())
    if not database.is_file() or database.stat().st_size == 0:  # `mlflow ui`, say, knows nothing of the lock
        half.replace(database)
    half.unlink(missing_ok=True)


def follow(database: Path, artifacts: Path, experiment: str) -> None:
    """Let the runs of a database that was moved with its files find them: they are in `artifacts`, no more where noted.

    MLflow notes whole paths. Only under the database's lock; nothing changes where the old place still is.
    """
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection, connection:
        known = "SELECT artifact_location FROM experiments WHERE name = ?"
        for (noted,) in connection.execute(known, (experiment,)).fetchall():
            old = url2pathname(urlsplit(noted).path)
            if not noted.startswith("file:") or Path(old).exists() or not artifacts.is_dir():
                continue
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                for before, now in ((noted, artifacts.as_uri()), (old, str(artifacts))):  # MLflow writes either
                    below = f"substr({column} || '/', 1, ?) = ?"
                    moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {below}"
                    connection.execute(moved, (now, len(before) + 1, len(before) + 1, f"{before}/"))


def _check_whole(database: Path) -> None:
    """Raise ConfigError for a database that MLflow would begin to migrate: a kill on the way would be its end."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            found = []
    if found != [(_get_latest_schema_revision(),)]:  # type: ignore[no-untyped-call]
        raise ConfigError(
            f"{database} was cut off when it was made, or is of another MLflow: delete it, or back it up and run "
            f"mlflow db upgrade sqlite:///{database}"
        )


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
    said = without_password(" ".join(str(error).split()))
    return (said if isinstance(error, ConfigError) else said[:160]) or type(error).__name__


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
