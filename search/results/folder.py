"""What stands in a study's folder; what is wrong with a file is told with its name and, if it has lines, the line."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.errors import one_line
from autoprune_lab.plugins.renamed import renamed
from search.config.errors import ConfigError, close
from search.config.paths import select

if TYPE_CHECKING:
    import optuna

CONFIG = "config.yaml"
FINISHED = ("trials.csv", "front.csv")  # what every finished study has written
NO_PASSWORD = ":***@"  # was written instead of one; the driver looks for it where it always does


def read_json(file: Path) -> dict[str, Any]:
    """An object of JSON, with names of code as they are now.

    Raises ConfigError where the file holds none, and OSError where it cannot be read.
    """
    try:
        found = renamed(json.loads(file.read_bytes()))
    except json.JSONDecodeError as error:
        raise _damaged(f"{file}, line {error.lineno}", error.msg) from error
    except (ValueError, RecursionError) as error:  # no text, or too deep
        raise _damaged(str(file), str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(str(file), "it holds no {...}")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """What a study's config.yaml says, with names of code as they are now; empty where there is none.

    Raises ConfigError.
    """
    import yaml

    file = folder / CONFIG
    if not file.is_file():
        return {}
    try:
        found = renamed(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _damaged(str(file), one_line(error)) from error
    if not isinstance(found, dict):
        raise _damaged(str(file), "it holds no mapping")
    return found


def load_optuna_study(folder: Path | str) -> "optuna.Study":
    """The optuna study of a study's folder, from its journal or its database; nothing is created.

    One that was put aside is kept in a database under the folder's new ending. Raises ConfigError where there is none.
    """
    from search.study.loop import existing
    from search.study.storage import StudyStorage

    folder = Path(folder)
    config = read_config(folder)
    name, url = str(config.get("study")), select(config, "search.storage")
    if url is not None:
        aside = re.search(r"\.old-\d+$", folder.resolve().name)
        name, url = name + (aside.group() if aside else ""), str(url).replace(NO_PASSWORD, "@")
    if (study := existing(StudyStorage(folder, name, url))) is None:
        raise ConfigError(f"{folder} holds no study's trials")
    return study


def is_finished(folder: Path) -> bool:
    """Is it the folder of a finished study?"""
    return all((folder / name).is_file() for name in FINISHED)


def study_folder(name: str, folder: Path = Path("runs")) -> Path:
    """A study's folder from its path, or from its name below `folder`. ConfigError names the studies there."""
    for place in (Path(name), folder / name):
        if place.is_dir():
            return place
    known = sorted(place.parent.name for place in folder.glob("*/front.csv"))
    raise ConfigError(
        f"there is no study '{name}'{close(name, known)}; studies in {folder}: {', '.join(known) or 'none'}"
    )


def check_finished(folder: Path) -> None:
    """Raise ConfigError unless it is the folder of a finished study; nothing heavy is imported to see that."""
    for name in FINISHED:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} is not the folder of a finished study: it has no {name}")


def _damaged(where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{where} cannot be read ({reason}): put a copy of the file in its place, or take another folder"
    )
