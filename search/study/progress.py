"""What a search shows while it runs, and whom it tells of every trial that has ended."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import optuna
from tqdm import tqdm

from autoprune_lab.fronts.front import ParetoFront
from search.study.ledger import Ledger
from search.study.trials import Observer

BAR = "{desc} |{bar:12}| {postfix}"


@contextmanager
def watching(study: optuna.Study, wanted: int, observers: Sequence[Observer] = ()) -> Iterator[Callable[[], None]]:
    """A function that looks at the study: it tells the observers what has ended since, whoever ran it.

    It keeps one line up to date where stderr is a terminal, and says nothing elsewhere.
    """
    ledger = Ledger(study).look()
    first, told, began = ledger.n_ended, len(ledger.ended), time.monotonic()

    def look() -> None:
        nonlocal told
        new = ledger.look().ended[told:]
        told += len(new)
        for trial in new:
            for observer in observers:
                observer(study, copy.deepcopy(trial))
        if not bar.disable:
            bar.n = min(ledger.n_ended, wanted)
            bar.set_postfix_str(line(ledger, wanted, first, time.monotonic() - began))

    with tqdm(total=wanted, desc=study.study_name, bar_format=BAR, disable=None) as bar:
        look()
        yield look


def line(ledger: Ledger, wanted: int, first: int, seconds: float) -> str:
    """How far the search is, what it has found, and how long it will take; `first` trials ended before it began."""
    ended = ledger.n_ended
    parts = [f"trial {ended}/{wanted}", *_found(ledger.front())]
    if ended > first and seconds > 0:
        speed = (ended - first) / seconds
        parts.append(f"{60 * speed:.3g} trials/min")
        if ended < wanted:
            parts.append(f"{tqdm.format_interval((wanted - ended) / speed)} left")
    return ", ".join(parts)


def _found(front: ParetoFront) -> list[str]:
    if not front.costs:
        return ["nothing within the bound yet"]
    return [f"best score {front.scores[-1]:.3f} at {front.costs[-1]:.3f}", f"hypervolume {front.hypervolume():.4f}"]
