"""Words of a command line: how they are read, and how it is told in one line what was wrong with them."""

import argparse
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from search.config.arguments import is_keyword
from search.config.errors import ConfigError, is_expected, one_line

INTERRUPTED = 130
LOUDNESS = {"-v": 1, "--verbose": 1, "-q": -1, "--quiet": -1}
LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}
PACKAGES = ("autoprune_lab", "search")  # whose loggers a command lets speak
UNFORESEEN = "This was not foreseen: a fault of autoprune, or of code that you named. Please report the lines above."


class UsageError(ConfigError):
    """Words that cannot be understood; one line."""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parser_of(name: str, command: ModuleType) -> Parser:
    """What reads the words after the command's name."""
    parser = Parser(
        prog=f"autoprune {name}",
        description=command.DESCRIPTION,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="also a line for every trial")
    parser.add_argument("-q", "--quiet", action="store_true", help="no bars and no lines on how far it is")
    parser.add_argument("--debug", action="store_true", help="show where a mistake was found")
    return parser


def read(parser: Parser, words: list[str]) -> argparse.Namespace:
    """Read the words. KEY=VALUE may stand anywhere: also behind an option that takes any number of values."""
    if not any(action.dest == "overrides" for action in parser._actions):
        return parser.parse_intermixed_args(words)
    keywords: list[str] = []
    others: list[str] = []
    awaited = False  # the value of an option that takes one
    for word in words:
        (keywords if is_keyword(word) and not awaited else others).append(word)
        awaited = not awaited and _takes_one(parser, word)
    given = parser.parse_intermixed_args(others)
    given.overrides = [*keywords, *given.overrides]
    return given


def _takes_one(parser: Parser, word: str) -> bool:
    """Is it an option, perhaps shortened, whose value is the next word?"""
    options = parser._option_string_actions
    meant = [options[word]] if word in options else [a for o, a in options.items() if o.startswith(word)]
    return word.startswith("-") and bool(meant) and meant[0].nargs is None


def reported(action: Callable[[], int | None], debug: bool = False) -> int:
    """What `action` returns; 2 for a mistake, told in one line on stderr; 130 after Ctrl-C.

    `debug` shows where a mistake was found. What nobody foresaw is raised.
    """
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it says what is raised as well
    try:
        code = action()
        sys.stdout.flush()
        return code or 0
    except KeyboardInterrupt:
        print("\nautoprune: stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_expected(error):
            error.add_note(UNFORESEEN)
            raise
        if debug:
            traceback.print_exception(error)
        return _refuse(error)


def resumable(work: Callable[[], object], place: Path, words: str) -> int:
    """Run studies that are kept in `place`; the exit code. Ended by Ctrl-C or dead workers, tell the words to go on."""
    from search.study.workers import WorkersDiedError  # here: it loads optuna

    again = f"finished trials are kept in {place}. To go on: {words}"
    try:
        work()
    except KeyboardInterrupt:
        print(f"\nstopped; {again}", file=sys.stderr)
        return INTERRUPTED
    except WorkersDiedError as error:
        print(f"\n{error}; {again}", file=sys.stderr)
        return 1
    return 0


class _AboveBars(logging.Handler):
    """Writes to stderr, above a bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def speaking(words: Sequence[str] = ()) -> Iterator[None]:
    """Let the project's loggers write to stderr, as loud as -v and -q among the words say; afterwards as before."""
    level = LEVELS[max(-1, min(1, sum(LOUDNESS.get(word, 0) for word in words)))]
    handler = _AboveBars()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(was)


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """What lives long is hardly ever looked through for garbage; young objects are, as always.

    Imports make a million objects that all stay, and to look through them again and again took a tenth of the CPU
    seconds before a study's first trial.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, 100 * old)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)


def search_here_last() -> None:
    """A user's own package in the current folder is found, but its `policies` or `search` never instead of ours."""
    if sys.path[-1] == "":
        return
    if sys.path[0] in ("", os.getcwd()):  # as `python -m` and `python -c` begin it
        del sys.path[0]
    sys.path.append("")


def _refuse(error: Exception) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # it is full or closed: nothing may try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"autoprune: {one_line(error)}", file=sys.stderr)
    return 2
