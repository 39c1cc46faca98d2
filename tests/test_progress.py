"""How far something is: a bar on a terminal, lines of the log elsewhere, nothing where nobody wants it."""

import io
import logging

import pytest

from autoprune_lab import progress as module
from autoprune_lab.progress import progress


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


@pytest.fixture
def said(monkeypatch, caplog):
    """A line after every item."""
    monkeypatch.setattr(module, "EVERY", 0)
    caplog.set_level(logging.INFO, logger="autoprune_lab")
    return caplog


def test_without_a_terminal_lines_say_what_of_how_many(said):
    assert list(progress([7, 8, 9], doing="answering shapes", unit="batches")) == [7, 8, 9]
    begun, *_, done = said.messages
    assert begun.startswith("answering shapes: 0/3 batches, ")
    assert done.startswith("answering shapes: 3/3 batches, ")
    assert "left" not in done
    assert len(said.messages) == 4
    assert said.messages[1].endswith(" left")


def test_what_was_done_before_counts(said):
    with progress(doing="answering", unit="samples", total=10, initial=4) as bar:
        bar.update(6)
    assert [message.partition(",")[0] for message in said.messages] == [
        "answering: 4/10 samples",
        "answering: 10/10 samples",
    ]


def test_what_is_short_says_nothing(caplog):
    caplog.set_level(logging.INFO, logger="autoprune_lab")
    assert list(progress(range(3), doing="short", unit="steps")) == [0, 1, 2]
    assert caplog.messages == []


def test_a_terminal_sees_a_bar_with_its_unit(said, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress(range(3), doing="reading the pictures of pope", unit="batches")) == [0, 1, 2]
    assert "reading the pictures of pope |" in terminal.getvalue()
    assert "0/3 batches" in terminal.getvalue()
    assert said.messages == []


@pytest.mark.parametrize("level", [logging.WARNING, None])
def test_who_is_quiet_sees_neither(level, said, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(module.LOG, "level", level or logging.INFO)
    assert list(progress(range(3), doing="x", unit="steps", shown=level is not None)) == [0, 1, 2]
    assert (terminal.getvalue(), said.messages) == ("", [])
