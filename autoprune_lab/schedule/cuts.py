"""Plans with at most so many cuts: a plan is snapped to a staircase, and the budget spent on its stairs."""

import numpy as np
from jaxtyping import Bool, Float, Int

from autoprune_lab.schedule.allocation import Column, Cost, Counts, allocate

Reachable = Bool[np.ndarray, "batch edges"]
Edges = Int[np.ndarray, "batch stairs"]


def check_max_cuts(max_cuts: int | None) -> None:
    """Raise ValueError for a limit below one cut."""
    if max_cuts is not None and max_cuts < 1:
        raise ValueError(f"max_cuts={max_cuts} must be at least 1; None sets no limit")


def fewer_cuts(counts: Counts, n_vision: Column, cost: Cost, max_cuts: int) -> Counts:
    """A plan that falls at the entrance of at most `max_cuts` layers, within `cost`; full layers stay full.

    The staircase nearest to `counts` is fitted again: tokens are handed out to its stairs as `allocate` hands them out
    to layers, weighted by the stairs' mean counts. Unless the stairs of a mean above 0 are full, less than one
    token of one stair is wasted. `counts` of few enough falls come out as they are, if they waste no more than
    `allocate` does. For the others, a larger bound may move the cuts, and so lower a layer.
    """
    edges = nearest_staircase(counts, _first_ends(n_vision, cost), n_vision, max_cuts)
    means = _within(counts, edges) / np.maximum(np.diff(edges, axis=1, prepend=0), 1)
    first = np.arange(max_cuts + 1) == 0
    priced = cost.priced(lambda price: _within(price, edges))
    stairs = allocate(np.where(first, 0.0, means), np.where(first, n_vision, 0), n_vision, priced)
    stair_of = (edges[:, :, None] <= np.arange(counts.shape[1])).sum(axis=1)
    return np.take_along_axis(stairs, stair_of, axis=1)


def fewer_cuts_opened(counts: Counts, opened: Column, n_vision: Column, cost: Cost, max_cuts: int) -> Counts:
    """`fewer_cuts` of samples that enter with `opened` tokens: if fewer than `n_vision`, one cut is spent."""
    fewer, spent = np.empty_like(counts), (opened < n_vision)[:, 0]
    for rows, left in ((~spent, max_cuts), (spent, max_cuts - 1)):
        if rows.any():
            fewer[rows] = fewer_cuts(counts[rows], opened[rows], cost.of(rows), left)
    return fewer


def _first_ends(n_vision: Column, cost: Cost) -> Reachable:
    """How many layers can keep every token, the rest none, without passing the bound."""
    empty, whole = cost.of_layers(np.zeros_like(n_vision)), cost.of_layers(n_vision)
    return np.asarray(empty.sum(axis=1, keepdims=True) + _sums(whole - empty) <= cost.bound)


def nearest_staircase(counts: Counts, first_ends: Reachable, n_vision: Column, max_cuts: int) -> Edges:
    """The layer before which each stair ends, by least squares over the layers; a stair may be empty.

    The first stair keeps `n_vision` and ends where `first_ends` allows; `max_cuts` others have their layers' mean.
    Dynamic programming: best[j] is the squared distance of layers 0 .. j-1 from the nearest so many stairs, less
    the squares of the counts, which no staircase changes.
    """
    sums, spread, starts = _sums(counts), _spread(counts), []
    best = np.where(first_ends, n_vision * (n_vision * np.arange(sums.shape[1]) - 2 * sums), np.inf)
    for _ in range(max_cuts):
        distance = best[:, None, :] + spread
        start = distance.argmin(axis=2, keepdims=True)
        best = np.take_along_axis(distance, start, axis=2)[:, :, 0]
        starts.append(start[:, :, 0])
    edges = [np.full((len(counts), 1), counts.shape[1])]
    for start in reversed(starts):
        edges.append(np.take_along_axis(start, edges[-1], axis=1))
    return np.concatenate(edges[::-1], axis=1)


def _spread(counts: Counts) -> Float[np.ndarray, "batch edges edges"]:
    """At [j, i], the squared distance of layers i .. j-1 from their mean, less their squares; infinite for i > j."""
    sums, ends = _sums(counts).astype(float), np.arange(counts.shape[1] + 1)
    width = ends[:, None] - ends
    spread = sums[:, :, None] - sums[:, None, :]
    spread *= spread
    spread /= -np.maximum(width, 1)
    spread[:, width < 0] = np.inf
    return np.asarray(spread)


def _within(values: Counts, edges: Edges) -> Int[np.ndarray, "batch stairs"]:
    """Sums of each row's values over the layers of each stair."""
    return np.diff(np.take_along_axis(_sums(values), edges, axis=1), axis=1, prepend=0)


def _sums(values: Counts) -> Int[np.ndarray, "batch edges"]:
    """Sums of the first 0, 1, .. values of each row."""
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
