"""Where a study is mirrored to: an MLflow tracking URI; and what the study itself notes of it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from search.config.errors import ConfigError, without_password

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "file")
SQLITE = "sqlite:///"
TARGET, KEY, STATUS = "tracking", "tracking_key", "tracking_status"  # attributes of a study
RUNNING, FINISHED, STOPPED = "RUNNING", "FINISHED", "KILLED"  # as MLflow calls them


@dataclass(frozen=True)
class MlflowTracking:
    """Where runs go: any MLflow tracking URI and an experiment's name.

    `artifacts` is the folder for the files of a SQLite store (default: beside it); a server keeps them itself.
    `patience` is how many seconds the end of a study waits at most for what is not logged yet.
    """

    uri: str
    experiment: str = "autoprune"
    artifacts: str | None = None
    patience: float = 60.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a URI that MLflow would not know."""
        scheme = re.split(r"[:+]", self.uri)[0]
        if scheme not in SCHEMES:
            raise ConfigError(
                f"uri={self.uri} is no MLflow tracking URI: give one such as sqlite:///runs/mlflow.db or "
                f"http://host:5000 (it begins with {', '.join(SCHEMES)})"
            )
        if not self.patience >= 0:
            raise ConfigError(f"patience={self.patience} must be at least 0 seconds")

    @property
    def database(self) -> Path | None:
        """The SQLite file, if it is one."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    def resolved(self) -> "MlflowTracking":
        """The same from any working directory."""
        if self.database is None:
            return MlflowTracking(self.uri, self.experiment, None, self.patience)
        file = self.database.resolve()
        artifacts = Path(self.artifacts).resolve() if self.artifacts else file.with_name(f"{file.stem}-artifacts")
        return MlflowTracking(f"{SQLITE}{file}", self.experiment, str(artifacts), self.patience)


def begin(study: optuna.Study, target: MlflowTracking, folder: Path) -> None:
    """Note in the study where it is logged, for `autoprune sync`; no password.

    A file is noted by the way to it from the study's folder, so that both may move together.
    """
    uri, artifacts = without_password(target.uri), target.artifacts
    if target.database is not None:
        uri = f"{SQLITE}{os.path.relpath(target.database, folder.resolve())}"
        artifacts = os.path.relpath(str(artifacts), folder.resolve())
    study.set_user_attr(TARGET, {"uri": uri, "experiment": target.experiment, "artifacts": artifacts})
    study.set_user_attr(STATUS, RUNNING)


def noted(study: optuna.Study, folder: Path) -> dict[str, Any]:
    """What `begin` noted, files from where the folder is now; whole paths, as once were noted, stay. Or nothing."""
    known = dict(study.user_attrs.get(TARGET, {}))
    if str(known.get("uri", "")).startswith(SQLITE):
        known["uri"] = f"{SQLITE}{(folder / known['uri'].removeprefix(SQLITE)).resolve()}"
    if known.get("artifacts"):
        known["artifacts"] = str((folder / known["artifacts"]).resolve())
    return known


def where(uri: str) -> str:
    """How to look at the runs, in one line."""
    uri = without_password(uri)
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
