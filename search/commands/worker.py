"""`autoprune worker`."""

import argparse

from search.config import arguments

SUMMARY = "help with a study that was begun elsewhere"
DESCRIPTION = f"""\
Join a study and run its trials until it is complete, beside whoever else does. The study's name and its database
are enough: everything else is taken from the command that began it. What the study's storage says is not trusted: it
names no code but that of this project, of --package and of --config-dir, unless this command says the same word.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune worker study=mine search.storage=postgresql://me@server/studies
  autoprune worker study=logistic_adaptive                 a journal on this host: runs/logistic_adaptive"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study to join."""
    arguments.add_arguments(parser)
    parser.add_argument("--package", action="append", default=[], help="a package that the study's pruners may use")


def run(given: argparse.Namespace) -> int:
    """Run trials, print nothing but what went wrong."""
    experiment = arguments.experiment(given, {})
    if experiment is None:
        return 0
    from search import pipeline

    pipeline.work(experiment, given.package)
    return 0
