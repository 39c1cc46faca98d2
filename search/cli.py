"""The command `autoprune`: reads the words of the command line; what they do is in verbs.py."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from search import help_texts

INTERRUPTED = 130


class UsageError(Exception):
    """Words that cannot be understood; one line."""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_texts.MAIN)
        return 0
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's own package in the current folder
    try:
        return _run(words[0], words[1:])
    except UsageError as mistake:
        return _refuse(mistake)
    except ValueError as error:
        if not _is_mistake(error):
            raise
        return _refuse(error)
    except KeyboardInterrupt:
        print("\nautoprune: stopped", file=sys.stderr)
        return INTERRUPTED


def _run(verb: str, words: list[str]) -> int:
    commands = {
        "study": _study,
        "evaluate": _evaluate,
        "compare": _compare,
        "train": _train,
        "new-policy": _new_policy,
    }
    if verb not in commands:
        from search.config import close

        raise UsageError(f"unknown command '{verb}'{close(verb, commands)}; commands: {', '.join(commands)}")
    parser = Parser(
        prog=f"autoprune {verb}",
        description=help_texts.VERBS[verb],
        epilog=help_texts.EXAMPLES[verb],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    try:
        return commands[verb](parser, words)
    except SystemExit as end:  # argparse printed its help
        return int(end.code or 0)


def _configured(parser: Parser) -> None:
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


def _study(parser: Parser, words: list[str]) -> int:
    _configured(parser)
    parser.add_argument("--fresh", action="store_true", help="start over; an old study is kept as NAME.old-N")
    given = parser.parse_intermixed_args(words)
    from search.config import compose

    settings = compose(given.overrides, given.config_dir)
    if given.cfg:
        return _print_config(settings)
    from search import verbs

    try:
        verbs.study(settings, given.fresh)
    except KeyboardInterrupt:
        command = shlex.join(["autoprune", "study", *(word for word in words if word != "--fresh")])
        print(f"\nstopped; finished trials are kept in {settings.out}. To go on: {command}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _evaluate(parser: Parser, words: list[str]) -> int:
    _configured(parser)
    parser.add_argument("--pruner", type=Path, metavar="FILE", help="a tuned pruner instead of the config's")
    parser.add_argument("--package", action="append", default=[], help="a package that FILE may name code of")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the unpruned model")
    given = parser.parse_intermixed_args(words)
    from search.config import compose

    settings = compose(given.overrides, given.config_dir)
    if given.cfg:
        return _print_config(settings)
    from search import verbs

    verbs.evaluate(settings, given.pruner, given.package, not given.no_baseline)
    return 0


def _compare(parser: Parser, words: list[str]) -> int:
    parser.add_argument("studies", nargs="+", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument("--at", nargs="+", type=float, default=[0.5, 0.35, 0.25], metavar="RATIO")
    parser.add_argument("--out", type=Path, default=Path("fronts.png"), metavar="PNG", help="the picture")
    parser.add_argument("--split", choices=["tune", "report"], default="tune", help="which scores to compare")
    given = parser.parse_intermixed_args(words)
    from search import verbs

    verbs.compare(given.studies, given.at, given.out, given.split == "report")
    return 0


def _train(parser: Parser, words: list[str]) -> int:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="steps of the second stage (default: the recipe's)")
    given = parser.parse_intermixed_args(words)
    if given.steps is not None and given.steps < 1:
        parser.error(f"--steps {given.steps} must be at least 1")
    from search import verbs

    verbs.train(given.out, given.seed, given.steps)
    return 0


def _new_policy(parser: Parser, words: list[str]) -> int:
    parser.add_argument("name", help="lower case with underscores, such as my_staircase")
    parser.add_argument("--package", type=Path, default=Path("my_policies"), metavar="DIR")
    given = parser.parse_intermixed_args(words)
    from search.scaffold import new_policy

    print(new_policy(given.name, given.package))
    return 0


def _print_config(settings: "object") -> int:
    from omegaconf import OmegaConf

    from search.config import Settings

    assert isinstance(settings, Settings)
    print(OmegaConf.to_yaml(settings.config), end="")
    return 0


def _is_mistake(error: ValueError) -> bool:
    """Is it the user's, told in one line, rather than ours?"""
    from autoprune_lab.budget import BudgetError
    from autoprune_lab.models.checkpoint import CheckpointError
    from search.config import ConfigError

    return isinstance(error, ConfigError | CheckpointError | BudgetError)


def _refuse(error: Exception) -> int:
    print(f"autoprune: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
