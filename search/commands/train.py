"""`autoprune train`."""

import argparse
from pathlib import Path

SUMMARY = "train the embedded model from scratch"
DESCRIPTION = """\
Train the embedded model from scratch and save it as a checkpoint folder. Takes the better part of an hour on two
cores. A model trained by you is used with model=path model.path=DIR."""
EXAMPLES = """\
  autoprune train --out my_model --seed 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, the seed and the length."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="steps of the second stage (default: the recipe's)")


def run(given: argparse.Namespace) -> int:
    """Train; goes on from its own checkpoint."""
    if given.steps is not None and given.steps < 1:
        from search.config import ConfigError

        raise ConfigError(f"--steps {given.steps} must be at least 1")
    from autoprune_lab.testbed.training.run import STEPS, train

    train(given.out, given.seed, steps=given.steps or STEPS)
    return 0
