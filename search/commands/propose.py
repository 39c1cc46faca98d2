"""`autoprune propose`."""

import argparse
import json

from search.config import arguments

SUMMARY = "say which settings a study would try next, as JSON lines"
DESCRIPTION = f"""\
Print settings to try next, one JSON object a line: {{"settings": {{"pruner.policy.layer": 3, ...}}}}. The study is
begun, or gone on with, as by autoprune study. Tell the results with autoprune tell and the same words. What was
proposed and never told is proposed again, first.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune propose policy=fixed study=mine                one setting
  autoprune propose policy=fixed study=mine --count 8      eight, for eight who try them at once"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study, and how many."""
    arguments.add_arguments(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many (default: 1)")


def run(given: argparse.Namespace) -> int:
    """Print one line each."""
    from search.config.errors import ConfigError

    if given.count < 1:
        raise ConfigError(f"--count {given.count} must be at least 1")
    experiment = arguments.study(given)
    if experiment is None:
        return 0
    from search.pipeline import open_study
    from search.study.proposals import ask

    with open_study(experiment) as study:
        for _ in range(given.count):
            print(json.dumps({"settings": ask(study)}), flush=True)
    return 0
