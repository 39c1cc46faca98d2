"""What the commands that run an experiment have in common: KEY=VALUE words that change the config."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.config.experiment import Experiment

ABOUT = """
Words such as policy=fixed choose a file of a group (conf/policy/fixed.yaml); words such as
pruner.policy.layer=3 change one line. The groups: model, task, method, policy, budget, scorer, complexity,
recovery, search, space, tracking, launcher, experiment. A name that does not exist is answered with the ones that do.
`--cfg job` prints all lines as they stand."""

KEYWORD = re.compile(r"\+{0,2}[A-Za-z_][^\s=]*=|~[A-Za-z_]")
ONE_AT_A_TIME = (
    "a command runs one experiment: run it once for each value, as autoprune sweep does with studies, or let one study "
    "choose: space=policies"
)


def is_keyword(said: str) -> bool:
    """Does it look like KEY=VALUE, +KEY=VALUE or ~KEY?"""
    return KEYWORD.match(said) is not None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words, --config-dir and --cfg."""
    add_words(parser)
    parser.add_argument("--cfg", choices=["job"], help="print the config as it stands, run nothing")
    parser.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)


def add_words(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words and --config-dir."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="change a line of the config")
    parser.add_argument(
        "--config-dir",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder with configs of your own, laid out like conf/ (repeatable)",
    )


def experiment(given: argparse.Namespace, unused: Mapping[str, str]) -> "Experiment | None":
    """The experiment that the words describe; None when --cfg asked to see it only, which it now has been.

    `unused`: fields and groups that the command does not read, and what to type instead. Raises ConfigError; what
    can be told without torch and optuna is told before they are imported.
    """
    from search.config import early_checks, threads
    from search.config.errors import ConfigError
    from search.config.experiment import Experiment
    from search.config.overrides import check_used

    if given.multirun:
        raise ConfigError(f"--multirun: {ONE_AT_A_TIME}")
    check_used(given.overrides, unused)
    composed = Experiment.compose(given.overrides, given.config_dir)
    if given.cfg is None:
        threads.use(composed.typed.threads)
        early_checks.check(composed)
        return composed
    print(composed.settings.yaml, end="")
    return None


def study(given: argparse.Namespace) -> "Experiment | None":
    """`experiment` of a command that begins a study or goes on with one: its search and its folder are checked too."""
    from search.config.early_checks import check_folder, check_search

    composed = experiment(given, {})
    if composed is not None:
        check_search(composed)
        check_folder(composed.out, "the study's folder")
    return composed


def command_line(given: argparse.Namespace, name: str) -> list[str]:
    """The words that give the same experiment again."""
    folders = [word for folder in given.config_dir for word in ("--config-dir", str(folder))]
    return ["autoprune", name, *given.overrides, *folders]
