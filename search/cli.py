"""The command `autoprune`: finds the commands in search/commands, reads the words, runs one of them.

A command is a module there, found by its file's name (`new_policy.py` is `new-policy`). It has SUMMARY (one line),
DESCRIPTION, EXAMPLES, `add_arguments(parser)` and `run(given) -> exit code`; heavy imports stay inside `run`.
"""

import sys
from collections.abc import Sequence

from search import commands
from search.command_line import (
    LOUDNESS,
    UsageError,
    old_objects_left_alone,
    parser_of,
    read,
    reported,
    search_here_last,
    speaking,
)
from search.config.arguments import is_keyword
from search.config.errors import close

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
autoprune list names what may be chosen, and autoprune --version the version. With any command: -v tells every trial, -q
nothing but the result, --debug where a mistake was found."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is as in `reported`."""
    said = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in said if word != "--debug" and word not in LOUDNESS]
    search_here_last()
    with speaking(said), old_objects_left_alone():
        return reported(lambda: _answer(words), "--debug" in said)


def overview() -> str:
    """What `autoprune --help` says."""
    lines = [f"  autoprune {name:<12} {module.SUMMARY}" for name, module in commands.find().items()]
    return "\n".join([BEGIN, *lines, END])


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
    known = commands.find()
    if name not in known:
        raise UsageError(f"unknown command '{name}'{close(name, known)}; commands: {', '.join(known)}")
    parser = parser_of(name, known[name])
    try:
        given = read(parser, words)
    except SystemExit as end:  # argparse printed its help
        return int(end.code or 0)
    return int(known[name].run(given))


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("autoprune-lab")
    except metadata.PackageNotFoundError:
        return "of a folder that was not installed"


if __name__ == "__main__":  # for launchers: accelerate launch -m search.cli evaluate ...
    sys.exit(main())
