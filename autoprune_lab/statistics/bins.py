"""A number per sample, and a curve for each range of it: where to part the numbers, and which curve each part takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from autoprune_lab.statistics.headroom import Choice, Scores, best_each, summed, weights, with_ties_broken
from autoprune_lab.statistics.resampling import folds

FOLDS = 3
CLASSES = 16  # at most so many numbers that are whole are taken for classes


@dataclass(frozen=True, eq=False)
class Bins:
    """A sample is in the bin whose number is that of the `edges` that its own number reaches; `choice`: curve a bin."""

    edges: tuple[float, ...]
    choice: Choice


def fit_bins(
    scores: Scores,
    costs: Scores,
    numbers: Float[np.ndarray, "samples"],
    kinds: Sequence[str],
    allowed: Bool[np.ndarray, "curves"],
    most: int = 5,
) -> Bins:
    """The best curve of `allowed` for each bin, and as many bins, 1 to `most`, as are worth it on samples held out.

    Bins hold about as many samples each, but equal numbers are never parted; where all numbers are whole and few, a bin
    for each is tried, too. How many is decided by folds: curves are
    chosen on the samples of two, scored on those of the third, every third sample of a kind; of numbers of bins that
    score alike the smallest. ValueError where no curve is allowed.
    """
    fold = folds(kinds, FOLDS)
    options = list(dict.fromkeys([*(_edges(numbers, n) for n in range(1, most + 1)), *_classes(numbers)]))
    held_out = [
        sum(_scored(scores, costs, _bin(numbers, edges), kinds, allowed, fold != out, fold == out) for out in set(fold))
        for edges in options
    ]
    edges = options[int(np.argmax(np.round(held_out, 9)))]
    everyone = np.ones(len(numbers), dtype=bool)
    return Bins(edges, _chosen(scores, costs, _bin(numbers, edges), kinds, allowed, everyone))


def _edges(numbers: np.ndarray, n: int) -> tuple[float, ...]:
    """At most n - 1 edges, each in the middle between two numbers that occur, nearest to equal shares."""
    known, counts = np.unique(numbers, return_counts=True)
    middles, below = (known[1:] + known[:-1]) / 2, counts.cumsum()[:-1] / len(numbers)
    if not len(middles):
        return ()
    return tuple(sorted({float(middles[abs(below - i / n).argmin()]) for i in range(1, n)}))


def _classes(numbers: np.ndarray) -> list[tuple[float, ...]]:
    """The edges that part all numbers, where they are those of classes."""
    known = np.unique(numbers)
    if len(known) > CLASSES or (known != known.round()).any():
        return []
    return [tuple(((known[1:] + known[:-1]) / 2).tolist())]


def _bin(numbers: np.ndarray, edges: Sequence[float]) -> Int[np.ndarray, "samples"]:
    return np.asarray(np.searchsorted(np.array(edges), numbers, side="right"))


def _chosen(
    scores: Scores, costs: Scores, bins: np.ndarray, kinds: Sequence[str], allowed: np.ndarray, on: np.ndarray
) -> Choice:
    """The best curve of each bin on the samples `on`; a bin that has none there takes what is best for all."""
    weight = weights(kinds) * on
    values = with_ties_broken(summed(scores, bins, weight))
    return best_each(values, np.broadcast_to(costs.mean(axis=0), values.shape), allowed)


def _scored(
    scores: Scores,
    costs: Scores,
    bins: np.ndarray,
    kinds: Sequence[str],
    allowed: np.ndarray,
    on: np.ndarray,
    off: np.ndarray,
) -> float:
    choice = _chosen(scores, costs, bins, kinds, allowed, on)
    taken = scores[np.arange(len(bins)), choice[bins]]
    return float((taken * weights(kinds))[off].sum())
