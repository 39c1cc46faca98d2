"""`autoprune train`."""

import argparse
from pathlib import Path

SUMMARY = "train an embedded model from scratch"
DESCRIPTION = """\
Train an embedded model from scratch and save it as a checkpoint folder. Takes the better part of an hour on two
cores; the same command again goes on where it stopped, and leaves a finished model as it is. A model trained by
you is used with model=path model.path=DIR. Several processes share one training under torchrun --nproc-per-node N."""
EXAMPLES = """\
  autoprune train --out my_model --seed 1
  autoprune train --world driving --out my_driver
  torchrun --nproc-per-node 2 $(which autoprune) train --world driving --out my_driver"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which world, where to, the seed and the length."""
    from autoprune_lab.testbed.worlds import world_names

    parser.add_argument("--world", choices=world_names(), default="shapes", help="what it learns (default: shapes)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="steps of the second stage (default: the recipe's)")


def run(given: argparse.Namespace) -> int:
    """Train; goes on from its own checkpoint."""
    from search.config.early_checks import check_folder
    from search.config.errors import ConfigError

    if given.steps is not None and given.steps < 1:
        raise ConfigError(f"--steps {given.steps} must be at least 1")
    check_folder(given.out, "--out")
    from autoprune_lab.testbed.training.run import train
    from autoprune_lab.testbed.worlds import course_of

    course = course_of(given.world)
    if lacking := course.missing():
        raise ConfigError(f"--world {given.world}: {lacking}")
    train(course, given.out, given.seed, given.steps)
    return 0
