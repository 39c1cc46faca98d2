"""Reads the small files of a folder; what is wrong with one is told with its name and, if it has lines, the line."""

import json
from pathlib import Path
from typing import Any

from autoprune_lab.plugins.renamed import renamed
from search.config.errors import ConfigError

FINISHED = ("trials.csv", "front.csv")  # what every finished study has written


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


def check_finished(folder: Path) -> None:
    """Raise ConfigError unless it is the folder of a finished study; nothing heavy is imported to see that."""
    for name in FINISHED:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} is not the folder of a finished study: it has no {name}")


def _damaged(where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{where} cannot be read ({reason}): put a copy of the file in its place, or take another folder"
    )
