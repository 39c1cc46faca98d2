"""`autoprune sync`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

    from search.tracking.settings import MlflowTracking

WAIT = 60.0  # seconds for another process that is logging the same study

SUMMARY = "send to MLflow what a dead or slow tracking server did not take"
DESCRIPTION = """\
Bring MLflow up to date with studies that were run before: trials, settings and files that are missing there are
sent, all others are left alone. It may be stopped and repeated at any time."""
EXAMPLES = """\
  autoprune sync runs/logistic_adaptive
  autoprune sync runs                                  every study below runs
  autoprune sync runs/fixed --uri http://host:5000     to another server than the study's own"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies and the server."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="DIR", help="a study's folder, or a folder of studies")
    parser.add_argument("--uri", help="an MLflow tracking URI (default: where the study was logged)")
    parser.add_argument("--experiment", help="the experiment's name (default: the study's)")


def run(given: argparse.Namespace) -> int:
    """One line a study; 1 when something could not be sent."""
    folders = [folder for place in given.studies for folder in _below(place)]
    opened = [(folder, *_open(folder, given.uri, given.experiment)) for folder in folders]
    complete = [_sync(*each) for each in opened]
    return 0 if all(complete) else 1


def _below(place: Path) -> list[Path]:
    """The folder itself, or the studies in it."""
    from search.config.errors import ConfigError
    from search.results.folder import CONFIG

    folders = [place] if (place / CONFIG).is_file() else sorted(file.parent for file in place.glob(f"*/{CONFIG}"))
    if not folders:
        raise ConfigError(f"{place} is neither a study's folder nor a folder of studies")
    return folders


def _open(folder: Path, uri: str | None, experiment: str | None) -> "tuple[optuna.Study, MlflowTracking]":
    """The study and where it goes. Raises ConfigError."""
    from search.config.errors import ConfigError
    from search.results.folder import NO_PASSWORD, load_optuna_study
    from search.tracking.settings import MlflowTracking, noted

    study = load_optuna_study(folder)
    known = noted(study, folder)
    if uri is None and not known:
        raise ConfigError(f"{folder} was not logged anywhere: add --uri URI, such as sqlite:///runs/mlflow.db")
    if uri is not None:
        known = {"uri": uri, "experiment": known.get("experiment", "autoprune")}
    known["uri"] = known["uri"].replace(NO_PASSWORD, "@")
    return study, MlflowTracking(**known | ({"experiment": experiment} if experiment else {})).resolved()


def _sync(folder: Path, study: "optuna.Study", target: "MlflowTracking") -> bool:
    """Send, print, say whether all is there."""
    from filelock import Timeout

    from search.tracking import client
    from search.tracking.background import turn, unsent
    from search.tracking.mirror import Mirror
    from search.tracking.settings import FINISHED, RUNNING, STATUS, STOPPED, where

    client.prepare()
    mirror = Mirror(study, target, folder)
    status = str(study.user_attrs.get(STATUS, FINISHED))
    try:
        with turn(mirror, WAIT):
            sent = mirror.send(STOPPED if status == RUNNING else status)  # killed; if it lives, it says so again
    except Timeout:
        print(unsent(mirror, "another process is logging this study"), file=sys.stderr)
        return False
    except Exception as error:  # of any server, driver or disk
        print(unsent(mirror, client.reason(error)), file=sys.stderr)
        return False
    print(f"{folder}: {sent} sent, {len(mirror.sent)} trials in MLflow: {where(target.uri)}")
    return True
