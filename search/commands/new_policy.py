"""`autoprune new-policy`."""

import argparse
from pathlib import Path

SUMMARY = "write the two files of a policy of your own, to fill in"
DESCRIPTION = """\
Write a policy that works, for you to change: DIR/NAME.py and DIR/conf/policy/NAME.yaml. DIR is a Python package
in the current folder; it is made if it does not exist."""
EXAMPLES = """\
  autoprune new-policy my_staircase
  pytest tests/plugins/test_policies.py --policies my_policies
  autoprune study policy=my_staircase --config-dir my_policies/conf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The policy's name and its package."""
    parser.add_argument("name", help="lower case with underscores, such as my_staircase")
    parser.add_argument("--package", type=Path, default=Path("my_policies"), metavar="DIR")


def run(given: argparse.Namespace) -> int:
    """Write the files and say what to do next."""
    from search.config.scaffold import new_policy

    print(new_policy(given.name, given.package))
    return 0
