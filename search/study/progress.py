"""What a search shows while it runs, and whom it tells of every trial that has ended."""

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial
from tqdm import tqdm

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.progress import is_quiet
from search.study.front import point_of
from search.study.ledger import Ledger
from search.study.trials import Observer, is_feasible

BAR = "{desc} |{bar:12}| {postfix}"
EVERY = 30.0  # seconds between two lines where there is no terminal
LOG = logging.getLogger(__name__)


@contextmanager
def watching(
    study: optuna.Study,
    wanted: int,
    observers: Sequence[Observer] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[], None]]:
    """A function that looks at the study: it tells the observers what has ended since, whoever ran it.

    It keeps one line up to date where stderr is a terminal. Elsewhere it logs that line (INFO): at the beginning, at
    the end, and after a trial where the last one is `EVERY` seconds ago. Every trial is a line of level DEBUG.
    """
    ledger = Ledger(study).look()
    first, told, began = ledger.n_ended, len(ledger.ended), clock()
    said, said_at = -1, began

    def look() -> None:
        nonlocal told
        new = ledger.look().ended[told:]
        told += len(new)
        for trial in new:
            LOG.debug("%s: %s", study.study_name, of_trial(trial))
            for observer in observers:
                observer(study, copy.deepcopy(trial))
        if not bar.disable:
            bar.n = min(ledger.n_ended, wanted)
            bar.set_postfix_str(line(ledger, wanted, first, clock() - began))
        elif said < 0 or (new and clock() - said_at >= EVERY):
            say()

    def say() -> None:
        nonlocal said, said_at
        if said != told:
            LOG.info("%s: %s", study.study_name, line(ledger, wanted, first, clock() - began))
        said, said_at = told, clock()

    with tqdm(total=wanted, desc=study.study_name, bar_format=BAR, disable=is_quiet() or None) as bar:
        look()
        yield look
        if bar.disable:
            say()


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


def of_trial(trial: FrozenTrial) -> str:
    """What a trial tried and what came of it."""
    tried = ", ".join(f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
                      for path, value in trial.params.items())  # fmt: skip
    if not trial.values:
        return f"trial {trial.number}: no result: {tried}"
    cost, score = point_of(trial)
    over = "" if is_feasible(trial) else ", over the bound"
    return f"trial {trial.number}: score {score:.3f} at {cost:.3f}{over}: {tried}"


def _found(front: ParetoFront) -> list[str]:
    if not front.costs:
        return ["nothing within the bound yet"]
    return [f"best score {front.scores[-1]:.3f} at {front.costs[-1]:.3f}", f"hypervolume {front.hypervolume():.4f}"]
