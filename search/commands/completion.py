"""`autoprune completion`: what may follow on a command line: commands, options, config groups, their files, fields."""

import argparse
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType

SUMMARY = "let the shell complete commands, options, config groups, fields and paths"
DESCRIPTION = """\
Print what a shell needs to complete the words of `autoprune` with the Tab key: commands, options and what they take,
the groups of conf/ and their files (those below --config-dir too), and fields. Where a path may stand, behind an option
or behind KEY=, the shell completes paths as ever."""
EXAMPLES = """\
  source <(autoprune completion bash)         for this shell; or put the line into ~/.bashrc
  source <(autoprune completion zsh)          likewise, ~/.zshrc"""

BREAKS = "=:"  # bash takes these for the end of a word
BASH = """\
_autoprune() {
    local IFS=$'\\n'
    COMPREPLY=($(autoprune completion --line "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt +o nospace 2>/dev/null  # paths are left to the shell
}
complete -o nospace -o default -F _autoprune autoprune"""
ZSH = f"""\
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
{BASH}"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell, and the line so far, which the shell fills in."""
    parser.add_argument("shell", nargs="?", choices=list(SCRIPTS), default="bash", help="default: bash")
    parser.add_argument("--line", help="used by the shell: print what may follow this line")


def run(given: argparse.Namespace) -> int:
    """Print the script, or what may follow a line."""
    from search import commands

    print(SCRIPTS[given.shell] if given.line is None else "\n".join(replies(given.line, commands.find())))
    return 0


def candidates(line: str, commands: Mapping[str, ModuleType]) -> list[str]:
    """What can stand for the last word of `line`, whole; one that is complete ends with a space.

    Where nothing is known the shell completes paths.
    """
    words = line.split()[1:] + ([""] if line[-1:].isspace() else [])
    *before, word = words or [""]
    if not before:
        return _starting(word, (f"{name} " for name in commands))
    command = commands.get(before[0])
    if command is None:
        return []
    from search.command_line import parser_of

    actions = [action for action in parser_of(before[0], command)._actions if action.help != argparse.SUPPRESS]
    if word.startswith("-"):
        return _starting(word, (f"{name} " for action in actions for name in action.option_strings))
    option = next((action for action in actions if before[-1] in action.option_strings and action.nargs != 0), None)
    if option is not None and option.nargs in (None, "+"):
        found = _starting(word, (f"{choice} " for choice in option.choices or ()))
        if found or option.nargs is None:
            return found
    named = [f"{choice} " for action in actions if not action.option_strings for choice in action.choices or ()]
    has_words = any(action.dest == "overrides" for action in actions)
    return _starting(word, named) + (_of_config(word, before[1:]) if has_words else [])


def replies(line: str, commands: Mapping[str, ModuleType]) -> list[str]:
    """The candidates as bash wants them: without what stands before the last `=` of the word."""
    word = "" if line[-1:].isspace() else line.split(" ")[-1]
    done = max(word.rfind(mark) for mark in BREAKS) + 1
    return [candidate[done:] for candidate in candidates(line, commands)]


def _of_config(word: str, before: list[str]) -> list[str]:
    from search.config.catalogue import conf_dir, options_of

    folders = [Path(value) for name, value in pairwise(before) if name == "--config-dir"]
    groups = sorted({folder.name for root in (conf_dir(), *folders) for folder in root.glob("*/")})
    key, equals, _ = word.partition("=")
    if equals:
        return _starting(word, (f"{key}={option} " for option in options_of(key, folders)))
    if "." not in word:
        return _starting(
            word, [*(f"{group}=" for group in groups), *(f"{name}." for name in ("pruner", "budget", "search"))]
        )
    from search.config.compose import compose
    from search.config.errors import ConfigError
    from search.config.paths import leaves

    try:
        config = compose([other for other in before if "=" in other and not other.startswith("-")], folders).config
    except ConfigError:
        return []
    return _starting(word, (f"{path}=" for path in leaves(config)))


def _starting(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(word)]
