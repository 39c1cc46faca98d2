"""The numbers of a replay."""

import numpy as np
import pytest

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
