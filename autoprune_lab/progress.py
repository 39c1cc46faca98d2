"""How far something long is: a bar on a terminal; elsewhere, through `logging`, a line every so often."""

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LOG = logging.getLogger("autoprune_lab")
EVERY = 30.0  # seconds between two lines; what takes less says nothing
BAR = "{desc} |{bar:12}| {n_fmt}/{total_fmt} {unit}, {elapsed} gone, {remaining} left"


def progress(
    items: Iterable[Any] | None = None,
    *,
    doing: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    shown: bool = True,
) -> "tqdm[Any]":
    """The items, counted as they are taken: what is being done (`doing`), how many `unit` (plural) of how many.

    Lines are of level INFO. Neither bar nor line where not `shown`, or where this package's logger is set above INFO.
    """
    said: dict[str, Any] = {"desc": doing, "unit": unit, "total": total, "initial": initial}
    if not shown or is_quiet():
        return tqdm(items, disable=True, **said)
    if sys.stderr.isatty():
        return tqdm(items, leave=False, bar_format=BAR, file=sys.stderr, **said)
    return _Lines(items, file=io.StringIO(), delay=EVERY, mininterval=EVERY, miniters=1, **said)


def is_quiet() -> bool:
    """Has somebody set this package's logger above INFO?"""
    return LOG.level > logging.INFO


class _Lines(tqdm):  # type: ignore[type-arg]  # it is generic for type checkers alone
    """A bar whose every look is a line of the log."""

    monitor_interval = 0  # no thread
    told: float = -1  # how far it was in the last line

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Log how far it is, once."""
        if self.n == self.told:
            return
        self.told = self.n
        known = self.format_dict
        rate, total = known["rate"], known["total"]
        left = f", {tqdm.format_interval((total - self.n) / rate)} left" if rate and total and self.n < total else ""
        gone = tqdm.format_interval(known["elapsed"])
        LOG.info("%s: %s/%s %s, %s gone%s", self.desc.removesuffix(": "), self.n, total, self.unit, gone, left)
