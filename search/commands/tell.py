"""`autoprune tell`."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from search.config import arguments

KEYS = ("settings", "score", "cost")

SUMMARY = "tell a study what settings gave, or have it measure them; JSON lines in, JSON lines out"
DESCRIPTION = f"""\
Read settings from stdin, one JSON object a line, and end a trial of the study with each:
{{"settings": {{...}}, "score": 0.71, "cost": 0.43}}; without score and cost the study runs the model itself. The
settings may be proposed by autoprune propose, or by anyone. One line is printed for each as soon as it has ended: the
trial's number, state, score and cost, whether it is within the bound, and if not, why. A line that is wrong ends the
command; those before it are kept.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune tell policy=fixed study=mine < results.jsonl
  my_proposer | autoprune tell policy=fixed study=mine     it proposes, the study measures"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study."""
    arguments.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """One line out for each line in."""
    experiment = arguments.study(given)
    if experiment is None:
        return 0
    from search.config.errors import ConfigError
    from search.pipeline import open_study
    from search.study.proposals import tell

    with open_study(experiment) as study:
        for number, line in enumerate(sys.stdin, 1):
            if not line.strip():
                continue
            try:
                told = tell(study, **_read(line))
            except ConfigError as error:
                raise ConfigError(f"line {number}: {error}") from error
            print(json.dumps(told.row()), flush=True)
    return 0


def _read(line: str) -> Mapping[str, Any]:
    """The arguments of `tell`. Raises ConfigError."""
    from search.config.errors import ConfigError, close

    try:
        said = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{line.strip()[:60]!r} is no JSON ({error})") from error
    if not isinstance(said, dict) or not isinstance(said.get("settings"), dict):
        raise ConfigError(f'{line.strip()[:60]!r} has no settings: write {{"settings": {{"PATH": VALUE}}}}')
    for key in said:
        if key not in KEYS:
            raise ConfigError(f"unknown key '{key}'{close(key, KEYS)}; keys: {', '.join(KEYS)}")
    return said
