"""Keeps a study's page up to date while the study runs, at a hundredth of its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from autoprune_lab.errors import one_line
from search.results.page.data import Source
from search.results.page.writing import write
from search.results.study_result import PAGE
from search.study.outages import StorageError, link
from search.study.trials import Observer

SHARE = 0.01  # of a study's time that writing may take
PAUSE = 5.0  # seconds between two pages at least


@contextmanager
def kept(study: optuna.Study, folder: Path) -> Iterator[Observer]:
    """While it is open, whoever is told of a trial writes the page if it is time; it is written once more at the end.

    The page of a study that was stopped says how far it came. A page that cannot be written is told once, on stderr.
    """
    keeper = _Keeper(Source(folder, study))
    keeper.write("reload")
    try:
        yield keeper.look
    finally:
        keeper.write(None)


class _Keeper:
    def __init__(self, source: Source) -> None:
        self.source, self._due, self._told = source, 0.0, False

    def look(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """An observer."""
        if time.monotonic() >= self._due:
            self.write("reload")

    def write(self, refresh: str | None) -> None:
        """Write the page, and rest for as long as keeps it cheap."""
        began = time.monotonic()
        try:
            write(self.source.folder / PAGE, [self.source.data()], refresh)
        except Exception as error:  # of a disk, a driver, a damaged table: no study dies of its page
            is_away = link(error, StorageError) is not None  # of which the study itself tells
            if not (self._told or is_away):
                print(f"\nautoprune: {self.source.folder / PAGE} cannot be written: {one_line(error)}", file=sys.stderr)
            self._told = True
        now = time.monotonic()
        self._due = now + max(PAUSE, (now - began) / SHARE)
