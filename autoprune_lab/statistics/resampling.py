"""Paired bootstrap: every arm is scored on the same resampled samples, so that differences need few of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

DRAWS = 4000
_NOUGHT = 1e-12  # sums of equal scores may differ by rounding


def resampled(
    scores: Float[np.ndarray, "arms samples"], kinds: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, "draws arms"]:
    """Each arm's score, the mean over kinds of the mean over samples, in `draws` resamples of the samples.

    Samples are drawn with replacement within their kind (kinds are strata), the same ones for every arm: a statistic
    of several arms, taken draw by draw, is paired. ValueError unless there is one kind a sample.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    if scores.shape[1] != len(kinds) or not len(kinds):
        raise ValueError(f"{scores.shape[1]} samples and {len(kinds)} kinds: give one kind a sample, at least one")
    rng, labels, names = np.random.default_rng(seed), np.asarray(kinds), list(dict.fromkeys(kinds))
    total = np.zeros((draws, len(scores)))
    for name in names:
        stratum = scores[:, labels == name]
        n = stratum.shape[1]
        total += rng.multinomial(n, np.full(n, 1 / n), size=draws) @ stratum.T / n
    return np.asarray(total / len(names))


def interval(values: Float[np.ndarray, "draws"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a resampled statistic; of no width where no resample differs from another."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """Left minus right, its 95 % interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def difference(
    left: Float[np.ndarray, "arms samples"],
    right: Float[np.ndarray, "others samples"],
    kinds: Sequence[str],
    draws: int = DRAWS,
) -> Difference:
    """Mean score of the `left` arms minus that of the `right` ones, on the same samples in the same order.

    Several arms on a side are seeds of one thing: their mean counts, and the interval is about samples only. The
    p-value is the level at which the interval would just reach 0, at least 2 / (draws + 1).
    """
    means = resampled(np.vstack([left, right]), kinds, draws)
    gap = means[:, : len(left)].mean(axis=1) - means[:, len(left) :].mean(axis=1)
    rarer = min((gap <= _NOUGHT).sum(), (gap >= -_NOUGHT).sum())
    names, labels = list(dict.fromkeys(kinds)), np.asarray(kinds)
    apart = left.mean(axis=0) - right.mean(axis=0)
    value = float(np.mean([apart[labels == name].mean() for name in names]))
    return Difference(value, *interval(gap), p=min(1.0, 2 * float(rarer + 1) / (draws + 1)))


def folds(kinds: Sequence[str], n: int) -> Int[np.ndarray, "samples"]:
    """Every sample's fold, 0 to `n` - 1, going round within its kind."""
    labels, found = np.asarray(kinds), np.zeros(len(kinds), dtype=int)
    for kind in set(kinds):
        own = labels == kind
        found[own] = np.arange(own.sum()) % n
    return found
