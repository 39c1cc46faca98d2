"""A study's front from the runs that it has in MLflow."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from autoprune_lab.fronts.front import ParetoFront
from search.config.errors import ConfigError, close
from search.tracking.client import prepare
from search.tracking.fields import CONSTRAINT
from search.tracking.runs import PARENT, runs_where
from search.tracking.settings import SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def from_mlflow(
    uri: str, study: str, experiment: str = "autoprune", cost: str = "flops_ratio", score: str = "score"
) -> ParetoFront:
    """The same front from the runs below the study's run, `cost` and `score` being the names of their metrics.

    Of several runs of that name the latest counts. A trial that was cut off and ran again counts as one without a
    result. ConfigError names the studies that are there.
    """
    client, place = _open(uri, experiment)
    named = {str(run.info.run_name): run for run in _studies(client, place)}
    if study not in named:
        raise ConfigError(f"{uri} has no study '{study}'{close(study, named)}; studies: {', '.join(named) or 'none'}")
    below = runs_where(client, place, f"tags.`{PARENT}` = '{named[study].info.run_id}' and tags.kind = 'trial'")
    trials = sorted(below, key=lambda run: int(run.data.tags["trial"]))
    return ParetoFront.of(
        [run.data.metrics.get(cost, math.nan) for run in trials],
        [run.data.metrics.get(score, math.nan) for run in trials],
        [run.data.tags["trial"] for run in trials],
        [_within(run) for run in trials],
    )


def studies_in_mlflow(uri: str, experiment: str = "autoprune") -> list[str]:
    """Names of the studies, in the order in which they were begun."""
    return list(dict.fromkeys(str(run.info.run_name) for run in _studies(*_open(uri, experiment))))


def _within(run: "Run") -> bool:
    """Did the trial keep every constraint, or fail before it could tell?"""
    over = [value for name, value in run.data.metrics.items() if name.startswith(CONSTRAINT)]
    return run.data.tags.get("state") == TrialState.FAIL.name or max(over, default=math.inf) <= 0


def _open(uri: str, experiment: str) -> "tuple[MlflowClient, str]":
    """A client and the experiment's id; makes no database where there is none."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise ConfigError(f"there is no MLflow database at {uri}: run autoprune study first, or give another uri")
    prepare()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(other.name for other in client.search_experiments())
        raise ConfigError(f"{uri} has no experiment '{experiment}'; experiments: {known}")
    return client, str(found.experiment_id)


def _studies(client: "MlflowClient", place: str) -> "list[Run]":
    """The run of every study, the oldest first."""
    return sorted(runs_where(client, place, "tags.kind = 'study'"), key=lambda run: int(run.info.start_time or 0))
