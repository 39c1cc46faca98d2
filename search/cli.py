"""The command `autoprune`: finds the commands in search/commands, reads the words, reports mistakes in one line.

A command is a module there, found by its file's name (`new_policy.py` is `new-policy`). It has SUMMARY (one line),
DESCRIPTION, EXAMPLES, `add_arguments(parser)` and `run(given) -> exit code`; heavy imports stay inside `run`.
"""

import argparse
import importlib
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from search import commands
from search.config.arguments import is_keyword
from search.config.errors import ConfigError, close, is_told, one_line

INTERRUPTED = 130
UNFORESEEN = "This was not foreseen: a fault of autoprune, or of code that you named. Please report the lines above."

BEGIN = """\
autoprune searches for policies that prune the visual tokens of vision-language models.
"""

END = """
Everything runs on a small trained model that comes with the package; no GPU and no download is needed.
What runs is said by KEY=VALUE words after the command:

  policy=fixed                which policy (how many visual tokens each layer keeps)
  budget.flops_ratio=0.35     how much of the unpruned prefill may be spent
  model=path model.path=DIR   another checkpoint

Begin with:

  autoprune study experiment=quick
  autoprune evaluate policy=fixed budget.flops_ratio=0.35

Each command explains itself: autoprune COMMAND --help
autoprune --version tells the version; --debug, with any command, shows where a mistake was found."""


class UsageError(ConfigError):
    """Words that cannot be understood; one line."""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 for what is told in one line, 130 after Ctrl-C.

    What nobody foresaw is raised.
    """
    said = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in said if word != "--debug"]
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it says what is raised as well
    try:
        search_here_last()
        code = _answer(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\nautoprune: stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not is_told(error):
            error.add_note(UNFORESEEN)
            raise
        if "--debug" in said:
            traceback.print_exception(error)
        return _refuse(error)


def search_here_last() -> None:
    """A user's own package in the current folder is found, but its `policies` or `search` never instead of ours."""
    if sys.path[-1] == "":
        return
    if sys.path[0] in ("", os.getcwd()):  # as `python -m` and `python -c` begin it
        del sys.path[0]
    sys.path.append("")


def find_commands() -> dict[str, ModuleType]:
    """Every command by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name.replace("_", "-"): importlib.import_module(f"{commands.__name__}.{name}") for name in names}


def overview() -> str:
    """What `autoprune --help` says."""
    lines = [f"  autoprune {name:<12} {module.SUMMARY}" for name, module in find_commands().items()]
    return "\n".join([BEGIN, *lines, END])


def parser_of(name: str, command: ModuleType) -> Parser:
    """What reads the words after the command's name."""
    parser = Parser(
        prog=f"autoprune {name}",
        description=command.DESCRIPTION,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show where a mistake was found")
    return parser


def _answer(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"autoprune {_version()}")
        return 0
    place = next((i for i, word in enumerate(words) if not is_keyword(word)), None)
    if place is None:
        raise UsageError(f"which command? For example: autoprune study {words[0]}")
    return _run(words[place], [*words[:place], *words[place + 1 :]])


def _run(name: str, words: list[str]) -> int:
    known = find_commands()
    if name not in known:
        raise UsageError(f"unknown command '{name}'{close(name, known)}; commands: {', '.join(known)}")
    parser = parser_of(name, known[name])
    try:
        given = read(parser, words)
    except SystemExit as end:  # argparse printed its help
        return int(end.code or 0)
    return int(known[name].run(given))


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


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("autoprune-lab")
    except metadata.PackageNotFoundError:
        return "of a folder that was not installed"


def _refuse(error: Exception) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # it is full or closed: nothing may try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"autoprune: {one_line(error)}", file=sys.stderr)
    return 2


if __name__ == "__main__":  # for launchers: accelerate launch -m search.cli evaluate ...
    sys.exit(main())
