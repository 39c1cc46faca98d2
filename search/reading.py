"""Reads the small files of a folder; what is wrong with one is told with its name and, if it has lines, the line."""

import json
from pathlib import Path
from typing import Any

from search.config import ConfigError


def read_json(file: Path) -> dict[str, Any]:
    """An object of JSON. Raises ConfigError where the file holds none, and OSError where it cannot be read."""
    try:
        found = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise _damaged(f"{file}, line {error.lineno}", error.msg) from error
    except (ValueError, RecursionError) as error:  # no text, or too deep
        raise _damaged(str(file), str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(str(file), "it holds no {...}")
    return found


def _damaged(where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{where} cannot be read ({reason}): put a copy of the file in its place, or take another folder"
    )
