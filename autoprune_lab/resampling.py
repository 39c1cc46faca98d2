"""Paired bootstrap: every arm is scored on the same resampled samples, so that differences need few of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DRAWS = 4000


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
