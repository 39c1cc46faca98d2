"""What the commands that run an experiment have in common: KEY=VALUE words that change the config."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.config import Settings

ABOUT = """
Words such as policy=fixed choose a file of a group (conf/policy/fixed.yaml); words such as
pruner.policy.layer=3 change one line. The groups: model, task, method, policy, budget, scorer, complexity,
recovery, search, space, tracking, launcher, experiment. A name that does not exist is answered with the ones that do.
`--cfg job` prints all lines as they stand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words, --config-dir and --cfg."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="change a line of the config")
    parser.add_argument(
        "--config-dir",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder with configs of your own, laid out like conf/ (repeatable)",
    )
    parser.add_argument("--cfg", choices=["job"], help="print the config as it stands, run nothing")


def settings(given: argparse.Namespace) -> "Settings | None":
    """The composed experiment; None when --cfg asked to see it only, which it now has been."""
    from omegaconf import OmegaConf

    from search.config import compose

    composed = compose(given.overrides, given.config_dir)
    if given.cfg is None:
        return composed
    print(OmegaConf.to_yaml(composed.config), end="")
    return None


def command_line(given: argparse.Namespace, name: str) -> list[str]:
    """The words that give the same experiment again."""
    folders = [word for folder in given.config_dir for word in ("--config-dir", str(folder))]
    return ["autoprune", name, *given.overrides, *folders]
