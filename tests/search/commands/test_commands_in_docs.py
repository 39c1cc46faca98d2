"""Every command of the docs is one: its options are known, and its words make a configuration."""

import re
import shlex
from pathlib import Path

import pytest

from search import commands
from search.cli import main
from search.command_line import parser_of, read

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_THE_READER = re.compile(r"my_|mine|NAME|OPTION|FILE|FOLDER|DIR|HOST|\.\.\.|KEY=")  # what only the reader has


def told(page: Path) -> list[str]:
    """The commands that stand on lines of their own, in fences or indented, comments off."""
    text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))
    return [line.split("  #")[0].strip() for line in re.findall(r"^(?:    )?(autoprune [a-z].*)$", text, re.MULTILINE)]


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line[10:70]}")
    for page in PAGES
    for line in dict.fromkeys(told(page))
    if not re.match(r"autoprune: |autoprune COMMAND", line)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_docs_is_understood(line: str, here, capsys):
    words = shlex.split(line.partition(" <")[0].partition(" |")[0], comments=True)[1:]
    (name, *rest), known = words, commands.find()
    assert name in known
    given = read(parser_of(name, known[name]), rest)
    if "cfg" in given and not OF_THE_READER.search(line):
        assert main([*words, "--cfg", "job"]) == 0, capsys.readouterr().err


def test_there_are_many():
    assert len(COMMANDS) > 60
