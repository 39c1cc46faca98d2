"""`autoprune completion`."""

import argparse

SUMMARY = "let the shell complete commands, options, config groups and fields"
DESCRIPTION = """\
Print what bash needs to complete the words of `autoprune` with the Tab key: commands, options, the groups of conf/ and
their files (those below --config-dir too), and fields."""
EXAMPLES = """\
  source <(autoprune completion)                                    bash, for this shell; or put it into ~/.bashrc
  autoload -U bashcompinit; bashcompinit; source <(autoprune completion)        zsh"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The line so far, which the shell fills in."""
    parser.add_argument("--line", help="used by the shell: print what may follow this line")


def run(given: argparse.Namespace) -> int:
    """Print the script, or what may follow a line."""
    from search.cli import find_commands
    from search.config.completion import BASH, replies

    print(BASH if given.line is None else "\n".join(replies(given.line, find_commands())))
    return 0
