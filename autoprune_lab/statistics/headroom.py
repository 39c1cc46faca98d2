"""The ceiling of adaptivity: curves chosen for all samples, for each kind, for each sample, and the share that is won.

A *pool* is a replay whose every curve anybody may choose. Curves are chosen on one split and scored on another; only
hindsight is chosen on what it is scored on. The score of all is the mean over kinds of the mean over samples.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from autoprune_lab.statistics.contrast import Estimate
from autoprune_lab.statistics.resampling import DRAWS, difference, interval, resampled

Values = Float[np.ndarray, "groups curves"]
Scores = Float[np.ndarray, "samples curves"]
Choice = Int[np.ndarray, "groups"]
"""The curve of each group: a place in the pool."""

_TIE = 1e-6  # of a score: of curves that a group answers alike, the one that all samples are answered better with
_PRICES, _HALVINGS = (1e-12, 1e12), 100
_ROUNDING = 1e-12


def weights(kinds: Sequence[str]) -> Float[np.ndarray, "samples"]:
    """What each sample counts in the score: kinds alike, and samples of a kind alike. They sum up to 1."""
    names, place, counts = np.unique(np.asarray(kinds), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(names) * counts[place]))


def by_kind(kinds: Sequence[str]) -> Int[np.ndarray, "samples"]:
    """The place of each sample's kind, in the order in which kinds first appear."""
    names = list(dict.fromkeys(kinds))
    return np.array([names.index(kind) for kind in kinds])


def summed(
    matrix: Scores, groups: Int[np.ndarray, "samples"], weight: Float[np.ndarray, "samples"]
) -> Float[np.ndarray, "groups curves"]:
    """What each group adds to the weighted mean of all samples, along each curve."""
    total = np.zeros((int(groups.max()) + 1, matrix.shape[1]))
    np.add.at(total, groups, matrix * weight[:, None])
    return total


def with_ties_broken(values: Values) -> Values:
    """The values, and a millionth of all groups' together: few samples tie often, and more of them know better."""
    return np.asarray(values + _TIE * values.sum(axis=0) / len(values))


def affordable(costs: Scores, bound: float) -> Bool[np.ndarray, "curves"]:
    """Curves that cost no sample more than `bound`."""
    return np.asarray((costs <= bound + _ROUNDING * max(bound, 1)).all(axis=0))


def best_each(values: Values, costs: Values, allowed: Bool[np.ndarray, "curves"]) -> Choice:
    """The best allowed curve of each group; of equal ones the cheapest. ValueError where none is allowed."""
    if not allowed.any():
        raise ValueError("no curve of the pool costs as little as the budget: give it cheaper ones")
    best = np.where(allowed, values, -np.inf).max(axis=1, keepdims=True)
    equal = allowed & (values >= best - _ROUNDING)
    return np.asarray(np.where(equal, costs, np.inf).argmin(axis=1))


def held_in_mean(values: Values, costs: Values, bound: float, also: Choice | None = None) -> Choice:
    """One curve a group so that their values sum up to much and their costs to at most `bound`.

    A Lagrange multiplier is the price of cost: each group takes the curve of the largest value less price times cost,
    and the price is the lowest that is affordable. What is left goes to the switches that give most for it. `also`: a
    choice that is taken, and filled up, where it is better. Values and costs are what groups add to the means of all
    samples (`summed`). Raises ValueError where the cheapest choice costs more than `bound`.

    Source: H. Everett, Operations Research 11 (1963), 399: generalized Lagrange multipliers for optimum allocation.
    """
    rows = np.arange(len(values))
    if (least := float(costs.min(axis=1).sum())) > bound + _ROUNDING:
        raise ValueError(f"the cheapest choice of curves costs {least:.6g}, more than {bound:.6g} in the mean")

    def chosen(price: float) -> Choice:
        worth = values - price * costs
        equal = worth >= worth.max(axis=1, keepdims=True) - _ROUNDING
        return np.asarray(np.where(equal, costs, np.inf).argmin(axis=1))

    def cost(choice: Choice) -> float:
        return float(costs[rows, choice].sum())

    if cost(best := chosen(0.0)) > bound + _ROUNDING:
        best, (low, high) = np.asarray(costs.argmin(axis=1)), _PRICES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            choice = chosen(middle)
            if cost(choice) <= bound + _ROUNDING:
                high, best = middle, choice
            else:
                low = middle
    options = [_filled(values, costs, bound, choice) for choice in ([best] if also is None else [best, also])]
    return max(options, key=lambda choice: float(values[rows, choice].sum()))


def _filled(values: Values, costs: Values, bound: float, choice: Choice) -> Choice:
    """The choice with whatever switch gives most value for its cost, as long as one fits."""
    choice, rows = choice.copy(), np.arange(len(values))
    while True:
        gain = values - values[rows, choice][:, None]
        price = costs - costs[rows, choice][:, None]
        fits = (gain > _ROUNDING) & (price <= bound - costs[rows, choice].sum() + _ROUNDING)
        if not fits.any():
            return choice
        worth = np.where(fits, gain / np.maximum(price, _ROUNDING), -np.inf)
        group, curve = np.unravel_index(int(worth.argmax()), worth.shape)
        choice[group] = curve


def taken(matrix: Scores, choice: Choice, groups: Int[np.ndarray, "samples"]) -> Float[np.ndarray, "samples"]:
    """Each sample's value along the curve of its group."""
    return np.asarray(matrix[np.arange(len(matrix)), choice[groups]])


def score_of(scores: Float[np.ndarray, "samples"], kinds: Sequence[str]) -> Estimate:
    """Mean over the kinds of the mean score, with its interval."""
    value = float(scores @ weights(kinds))
    return Estimate(value, *interval(resampled(scores[None], kinds)[:, 0]))


def gain_of(scores: Float[np.ndarray, "samples"], over: Float[np.ndarray, "samples"], kinds: Sequence[str]) -> Estimate:
    """The paired difference of two arms' scores."""
    gap = difference(scores[None], over[None], kinds)
    return Estimate(gap.value, gap.low, gap.high)


def share_of_headroom(
    adaptive: Float[np.ndarray, "samples"],
    fixed: Float[np.ndarray, "samples"],
    oracle: Float[np.ndarray, "samples"],
    kinds: Sequence[str],
    draws: int = DRAWS,
) -> Estimate | None:
    """(adaptive - fixed) / (oracle - fixed), resampled jointly; None where the oracle's own gain is not clear.

    In the few resamples in which the oracle gains nothing the share is without bound, up or down as the adaptive arm
    gains or loses: the interval may be open.
    """
    if gain_of(oracle, fixed, kinds).low <= 0:
        return None
    means = resampled(np.stack([adaptive, fixed, oracle]), kinds, draws)
    won, room = means[:, 0] - means[:, 1], means[:, 2] - means[:, 1]
    unbounded = np.where(np.abs(won) > _ROUNDING, np.copysign(np.inf, won), 0.0)
    shares = np.where(room > _ROUNDING, won / np.maximum(room, _ROUNDING), unbounded)
    low, high = np.quantile(shares, (0.025, 0.975), method="nearest")  # between two infinities nothing is interpolated
    weight = weights(kinds)
    return Estimate(float((adaptive - fixed) @ weight / ((oracle - fixed) @ weight)), float(low), float(high))
