"""Choosing curves for all, for kinds and for samples, and the share of the headroom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.statistics.headroom import (
    affordable,
    best_each,
    by_kind,
    gain_of,
    held_in_mean,
    score_of,
    share_of_headroom,
    summed,
    taken,
    weights,
    with_ties_broken,
)

KINDS = ["a", "b", "b", "a", "b", "b"]


def test_kinds_count_alike():
    assert weights(KINDS).tolist() == [0.25, 0.125, 0.125, 0.25, 0.125, 0.125]
    assert by_kind(["b", "a", "b"]).tolist() == [0, 1, 0]
    matrix = np.arange(12.0).reshape(6, 2)
    total = summed(matrix, by_kind(KINDS), weights(KINDS))
    assert total.tolist() == [[0.25 * (0 + 6), 0.25 * (1 + 7)], [0.125 * (2 + 4 + 8 + 10), 0.125 * (3 + 5 + 9 + 11)]]
    assert score_of(matrix[:, 0], KINDS).value == pytest.approx(total[:, 0].sum())


def test_equal_cost_means_for_every_sample():
    costs = np.array([[1.0, 2.0, 3.0], [1.0, 2.5, 3.0]])
    assert affordable(costs, 2.0).tolist() == [True, False, False]
    assert affordable(costs, 2.5).tolist() == [True, True, False]


def test_each_takes_its_best_and_of_equal_ones_the_cheapest():
    values, costs = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    allowed = np.array([True, True, False])
    assert best_each(values, costs, allowed).tolist() == [1, 1]
    assert taken(10 * values, np.array([1, 0]), np.array([1, 0])).tolist() == [10.0, 10.0]
    with pytest.raises(ValueError, match="no curve of the pool"):
        best_each(values, costs, ~allowed & allowed)


def test_of_curves_that_a_kind_answers_alike_it_takes_the_one_that_all_answer_better_with():
    values = np.array([[0.5, 0.5, 0.4], [0.1, 0.4, 0.5]])
    assert with_ties_broken(values).argmax(axis=1).tolist() == [1, 2]


def test_in_the_mean_who_gains_most_gets_most():
    values = np.array([[0.0, 0.4, 0.5], [0.0, 0.1, 0.5]])
    costs = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    bounds = {2: [0, 0], 3: [1, 0], 4: [1, 1], 6: [1, 2], 7: [1, 2], 8: [2, 2], 99: [2, 2]}
    assert {bound: held_in_mean(values, costs, float(bound)).tolist() for bound in bounds} == bounds
    assert held_in_mean(values, costs, 5.0).tolist() == [1, 1]  # the best price pays for [1, 0], what is left for more
    better = np.array([[0.0, 0.3, 0.4], [0.0, 0.1, 0.5]])
    assert held_in_mean(better, costs, 5.0, also=np.array([0, 2])).tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"costs 2, more than 1\.5"):
        held_in_mean(values, costs, 1.5)


@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_in_the_mean_is_within_the_bound_and_no_worse_than_equal_costs_or_what_it_is_given(seed, part):
    rng = np.random.default_rng(seed)
    values, costs = rng.random((3, 5)), np.tile(rng.random(5), (3, 1)) / 3
    bound = costs[0].min() * 3 + part * (costs[0].max() - costs[0].min()) * 3
    equal = best_each(values, costs, costs[0] * 3 <= bound + 1e-12)
    mean = held_in_mean(values, costs, bound, equal)
    rows = np.arange(3)
    assert costs[rows, mean].sum() <= bound + 1e-9
    every = [np.array(choice) for choice in np.ndindex(5, 5, 5)]
    best = max(values[rows, c].sum() for c in every if costs[rows, c].sum() <= bound + 1e-12)
    assert values[rows, equal].sum() - 1e-9 <= values[rows, mean].sum() <= best + 1e-9


def test_the_share_of_the_headroom_is_resampled_jointly():
    kinds = ["a"] * 200 + ["b"] * 200
    fixed = np.tile([1.0, 1.0, 0.0, 0.0], 100)
    oracle, half = np.ones(400), np.tile([1.0, 1.0, 1.0, 0.0], 100)
    share = share_of_headroom(half, fixed, oracle, kinds)
    assert share.value == pytest.approx(0.5)
    assert 0.4 < share.low < 0.47 < 0.53 < share.high < 0.6
    whole = share_of_headroom(oracle, fixed, oracle, kinds)
    assert (whole.value, whole.low, whole.high) == (1, 1, 1)
    assert share_of_headroom(fixed, fixed, oracle, kinds).high == 0
    assert share_of_headroom(half, fixed, half, kinds).low == 1  # the same differences in every resample


def test_without_headroom_there_is_no_share():
    assert share_of_headroom(np.ones(40), np.zeros(40), np.zeros(40), ["a"] * 40) is None
    luck = np.zeros(40)
    luck[0] = 1  # one sample of 40: many resamples lack it
    assert gain_of(luck, np.zeros(40), ["a"] * 40).low == 0
    assert share_of_headroom(luck, np.zeros(40), luck, ["a"] * 40) is None
