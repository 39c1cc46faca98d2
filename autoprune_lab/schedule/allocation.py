"""Hands out whole tokens to layers, in the order in which a growing scale admits them, up to a cost.

A layer may also stand for a stair: several layers of one count, at the sum of their costs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from autoprune_lab.schedule.flops import chunks_cost

Column = Int[np.ndarray, "batch 1"]
Counts = Int[np.ndarray, "batch layers"]
Weights = Float[np.ndarray, "batch layers"]
Scale = Float[np.ndarray, "batch 1"]
Price = Int[np.ndarray, "batch layers"]

_LEAST_WEIGHT = 1e-290  # of the largest weight: below it a layer stays empty, and no scale can overflow


@dataclass(frozen=True)
class Cost:
    """Layer l of m = tokens + text costs linear[l] * m + quadratic[l] * m**2; their sum must not pass `bound`.

    `chunks`: by the length of a chunk, what each one costs, and each against each: see `flops.chunks_cost`.
    """

    linear: Price
    quadratic: Price
    text: Column
    bound: Column
    chunks: Mapping[int, tuple[Price, Price]] = field(default_factory=dict)

    def total(self, tokens: Counts) -> Column:
        """Cost of each sample's plan."""
        return np.asarray(self.of_layers(tokens).sum(axis=1, keepdims=True))

    def of_layers(self, tokens: Int[np.ndarray, "batch #layers"]) -> Counts:
        """Cost of each layer of each sample's plan."""
        m = tokens + self.text
        whole = m * (self.linear + self.quadratic * m)
        for size, price in self.chunks.items():
            whole = whole + chunks_cost(m, size, *price)
        return np.asarray(whole)

    def of(self, rows: Bool[np.ndarray, "batch"]) -> "Cost":
        """Of some of the samples."""
        chunks = {size: (each[rows], pair[rows]) for size, (each, pair) in self.chunks.items()}
        return Cost(self.linear[rows], self.quadratic[rows], self.text[rows], self.bound[rows], chunks)

    def priced(self, change: Callable[[Price], Price]) -> "Cost":
        """With every price changed."""
        chunks = {size: (change(each), change(pair)) for size, (each, pair) in self.chunks.items()}
        return Cost(change(self.linear), change(self.quadratic), self.text, self.bound, chunks)

    def of_next(self, tokens: Counts) -> Counts:
        """What one more token would cost in each layer."""
        return np.asarray(self.of_layers(tokens + 1) - self.of_layers(tokens))


def allocate(weights: Weights, held: Counts, n_vision: Column, cost: Cost) -> Counts:
    """`held` plus the longest sequence of tokens that `cost` allows, at most `n_vision` a layer.

    Token j of a layer enters at the scale j / (weight * n_vision), at equal scales the lower layer's first;
    weight 0 admits none. Bisection brackets the scale until at most one token a layer enters inside the
    bracket; these last ones go out one by one. Both steps compare the same j / weight: the order is exact.
    """
    weights = weights / np.maximum(weights.max(axis=1, keepdims=True), np.finfo(float).tiny)
    room = np.where(weights > _LEAST_WEIGHT, n_vision, 0)
    weights = np.where(room > 0, weights * n_vision, 1.0)
    low = 0.5 / np.maximum(n_vision, 1)  # before the first token enters
    high = 2.0 * np.max(n_vision / weights, axis=1, keepdims=True, initial=1.0)  # after the last one
    for _ in range(_halvings(low, high, n_vision)):
        middle = np.sqrt(low) * np.sqrt(high)
        fits = cost.total(held + entered(middle, weights, room)) <= cost.bound
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    count = entered(low, weights, room)
    admits = np.where(count < room, (count + 1) / weights, np.inf)
    return np.asarray(held + count + _last_ones(held + count, admits, cost))


def column(values: Sequence[int]) -> Column:
    """One integer a sample, as a column that broadcasts over the layers."""
    return np.array(values, dtype=np.int64)[:, None]


def entered(scale: Scale, weights: Weights, room: Counts) -> Counts:
    """Per layer, how many j = 1 .. room have j / weight <= scale."""
    count = np.minimum(np.floor(scale * weights), room)
    count += (count + 1) / weights <= scale  # floor() may be off by one from the exact comparison
    count -= count / weights > scale
    return np.asarray(np.minimum(count, room), dtype=np.int64)


def _halvings(low: Scale, high: Scale, n_vision: Column) -> int:
    """Halvings of log(high / low) until at most one token of a layer enters in between."""
    ratio = (np.log(high) - np.log(low)) / np.log1p(0.5 / np.maximum(n_vision, 1))
    return max(0, math.ceil(math.log2(ratio.max())))


def _last_ones(tokens: Counts, admits: Weights, cost: Cost) -> Counts:
    """0 or 1 more token a layer: the layers of finite `admits`, lowest first, while their sum fits."""
    order = np.argsort(admits, axis=1, kind="stable")  # stable: ties go to the lower layer
    price = np.take_along_axis(cost.of_next(tokens), order, axis=1)
    fits: Bool[np.ndarray, "batch layers"] = cost.total(tokens) + np.cumsum(price, axis=1) <= cost.bound
    extra = np.zeros_like(tokens)
    np.put_along_axis(extra, order, fits.astype(np.int64), axis=1)
    return np.where(np.isfinite(admits), extra, 0)
