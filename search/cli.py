"""The command `autoprune`: finds the commands in search/commands, reads the words, reports mistakes in one line.

A command is a module there, found by its file's name (`new_policy.py` is `new-policy`). It has SUMMARY (one line),
DESCRIPTION, EXAMPLES, `add_arguments(parser)` and `run(given) -> exit code`; heavy imports stay inside `run`.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from search import commands

INTERRUPTED = 130

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

Each command explains itself: autoprune COMMAND --help"""


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
        print(overview())
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


def find_commands() -> dict[str, ModuleType]:
    """Every command by its name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name.replace("_", "-"): importlib.import_module(f"{commands.__name__}.{name}") for name in names}


def overview() -> str:
    """What `autoprune --help` says."""
    lines = [f"  autoprune {name:<12} {module.SUMMARY}" for name, module in find_commands().items()]
    return "\n".join([BEGIN, *lines, END])


def _run(name: str, words: list[str]) -> int:
    known = find_commands()
    if name not in known:
        from search.config import close

        raise UsageError(f"unknown command '{name}'{close(name, known)}; commands: {', '.join(known)}")
    command = known[name]
    parser = Parser(
        prog=f"autoprune {name}",
        description=command.DESCRIPTION,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    try:
        given = parser.parse_intermixed_args(words)
    except SystemExit as end:  # argparse printed its help
        return int(end.code or 0)
    return int(command.run(given))


def _is_mistake(error: ValueError) -> bool:
    """Is it the user's, told in one line, rather than ours?"""
    from autoprune_lab.answers import AnswersError
    from autoprune_lab.budget import BudgetError
    from autoprune_lab.models.errors import CheckpointError
    from autoprune_lab.tasks.base import TaskError
    from search.config import ConfigError

    return isinstance(error, AnswersError | ConfigError | CheckpointError | BudgetError | TaskError)


def _refuse(error: Exception) -> int:
    print(f"autoprune: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":  # for launchers: accelerate launch -m search.cli evaluate ...
    sys.exit(main())
