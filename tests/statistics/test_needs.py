"""The numbers of a replay, and the needs of kinds."""

from dataclasses import replace

import numpy as np
import pytest

from autoprune_lab.statistics.needs import Needs, needs
from autoprune_lab.statistics.replay import Replay, rectangles, right

ROWS = np.array([[True, False], [True, True], [False, False]])
COSTS = np.array([[0.5, 0.25]] * 3)
MADE = Replay(((1.0, 0.0), (0.5, 0.0)), ROWS, ~ROWS, COSTS, 10 * COSTS)


def test_without_scores_a_right_answer_counts_1():
    assert MADE.scores.tolist() == [[1, 0], [1, 1], [0, 0]]


def test_two_replays_of_the_same_samples_are_one():
    both = MADE + MADE
    assert both.curves == MADE.curves * 2
    assert both.right.tolist() == np.hstack([ROWS, ROWS]).tolist()
    assert both.mean_tokens.shape == both.scores.shape == (3, 4)


def test_arrays_have_a_row_a_sample_and_a_column_a_curve():
    with pytest.raises(ValueError, match=r"right has shape \(3, 2\), expected \(3, 1\)"):
        Replay(MADE.curves[:1], ROWS, ROWS, COSTS, COSTS)


def test_right_is_half_of_what_the_unpruned_answer_scores_and_more_than_nothing():
    scores = np.array([[0.3, 0.5, 0.6], [0.0, 0.0, 0.3]])
    assert right(scores, np.array([1.0, 0.0])).tolist() == [[False, True, True], [False, False, True]]


def test_rectangles_keep_some_for_a_while_and_all_up_to_the_probe():
    assert rectangles([1, 2], [0.5, 1.0], 3) == [(0.5, 0, 0), (1, 0, 0), (0.5, 0.5, 0), (1, 1, 0)]
    assert rectangles([0, 1, 2], [0.5], 3, free_from=1) == [(1, 0, 0), (1, 0.5, 0)]


KINDS = ["near", "near", "far", "far"]
CURVES = ((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25), (1.0, 1.0, 1.0, 1.0))
TOKENS = np.tile([2.0, 2.0, 2.0, 8.0], (4, 1))


def answered(*rows):
    scores = np.array(rows, dtype=float)
    return Replay(CURVES, scores > 0, scores > 0, TOKENS / 8, TOKENS, scores)


def test_a_kind_needs_its_cheapest_curve_and_the_envelope_is_above_all():
    found = needs(answered([0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]), np.ones(4), KINDS, 8.0)
    near, far = found.kinds
    assert (near.kind, near.curve, near.mean_tokens, near.kept) == ("near", CURVES[1], 2.0, 1.0)
    assert (near.layers, near.tokens) == (2, 4.0)  # of (0.5, 0.5) and of all
    assert (far.curve, far.layers, far.tokens, far.met) == (CURVES[2], 4, 2.0, True)
    assert found.mean.tolist() == [3, 3, 1, 1]
    assert found.envelope.tolist() == [4, 4, 2, 2]
    assert found.window == (2.0, 3.0)
    assert found.budgets(2) == [2.0, 2.5]
    assert found.budgets(1) == [2.0]


def test_what_is_kept_is_a_share_of_what_the_unpruned_model_scores():
    replay = answered([0, 1, 1, 1], [1, 0, 1, 1], [0, 0.5, 0, 0.6], [0, 0, 0, 0.6])
    whole = np.array([1.0, 1.0, 1.0, 0.0])
    assert [need.curve for need in needs(replay, whole, KINDS, 8.0, share=0.5).kinds] == [CURVES[2], CURVES[1]]
    strict = needs(replay, whole, KINDS, 8.0).kinds
    assert [(need.curve, need.met, need.kept) for need in strict] == [(CURVES[2], True, 1.0), (CURVES[3], True, 1.2)]


def test_a_need_that_no_curve_meets_is_marked_and_nothing_to_keep_needs_nothing():
    replay = answered([0, 0, 0.8, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    near, far = needs(replay, np.array([1.0, 1.0, 0.0, 0.0]), KINDS, 8.0).kinds
    assert (near.curve, near.met, near.kept) == (CURVES[2], False, 0.4)
    assert (far.mean_tokens, far.met, far.kept) == (2.0, True, 1.0)


def test_layers_that_are_always_full_are_no_need():
    replay = answered(*[[1, 1, 0, 1]] * 4)
    assert [need.tokens for need in needs(replay, np.ones(4), KINDS, 8.0, free_from=2).kinds] == [0.0, 0.0]


def test_one_kind_has_one_budget_and_budgets_are_rounded_up():
    found = needs(answered(*[[0, 0, 0, 1]] * 4), np.ones(4), ["all"] * 4, 8.0)
    assert found.window == (8.0, 8.0)
    assert found.budgets(3) == [8.0]
    assert Needs(tuple(replace(need, curve=(0.25123, 0.0)) for need in found.kinds), 100.0).budgets(1) == [12.6]
