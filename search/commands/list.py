"""`autoprune list`."""

import argparse
from pathlib import Path

from search.config.catalogue import KINDS

SUMMARY = "name what may be chosen: policies, scorers, tasks, methods, models, ..."
DESCRIPTION = """\
Print every option of one kind, as it is typed, with a sentence on what it is; without a kind, the kinds. Those of your
own are found below --config-dir."""
EXAMPLES = """\
  autoprune list
  autoprune list policies
  autoprune list scorers --config-dir my_policies/conf"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The kind, and folders of one's own."""
    names = [*KINDS, *KINDS.values()]
    kinds = ", ".join(KINDS)
    parser.add_argument("kind", nargs="?", choices=names, metavar="KIND", help=f"{kinds}, or a config group")
    parser.add_argument(
        "--config-dir", action="append", type=Path, default=[], metavar="DIR", help="configs of your own (repeatable)"
    )


def run(given: argparse.Namespace) -> int:
    """A line an option, or a line a kind."""
    from search.config.catalogue import options_of, summaries
    from search.config.errors import ConfigError

    for folder in given.config_dir:
        if not folder.is_dir():
            raise ConfigError(f"config folder {folder} does not exist")
    if given.kind is None:
        rows = {kind: f"{len(options_of(group, given.config_dir)):>3}  {group}=" for kind, group in KINDS.items()}
    else:
        group = KINDS.get(given.kind, given.kind)
        rows = {f"{group}={name}": told for name, told in summaries(group, given.config_dir).items()}
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {told}".rstrip() for name, told in rows.items()))
    return 0
