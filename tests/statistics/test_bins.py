"""Bins of a number, and the curve that each takes."""

import numpy as np

from autoprune_lab.statistics.bins import fit_bins

KINDS = ("a", "b") * 60
COSTS = np.ones((120, 3))
EVERY = np.ones(3, dtype=bool)


def test_a_number_that_tells_the_need_parts_the_samples():
    """Curve 0 answers the low half, curve 1 the high one, curve 2 two of three of either."""
    numbers = np.arange(120.0) % 60
    low = numbers < 30
    scores = np.array([low, ~low, np.arange(120) % 3 > 0], dtype=float).T
    found = fit_bins(scores, COSTS, numbers, KINDS, EVERY)
    assert found.edges == (29.5,)
    assert found.choice.tolist() == [0, 1]
    assert fit_bins(scores, COSTS, numbers, KINDS, np.array([True, False, True])).choice.tolist() == [0, 2]


def test_a_number_that_tells_nothing_leaves_one_curve_for_all():
    """Answers are drawn apart from the numbers: what bins seem to win on some samples they lose on others."""
    rng = np.random.default_rng(0)
    scores = (rng.random((120, 3)) < [0.4, 0.5, 0.9]).astype(float)
    found = fit_bins(scores, COSTS, rng.random(120), KINDS, EVERY)
    assert found.edges == ()
    assert found.choice.tolist() == [2]


def test_equal_numbers_are_never_parted_and_one_number_has_one_bin():
    numbers = np.repeat([1.0, 2.0], [100, 20])
    scores = np.stack([numbers == 1, numbers == 2, np.zeros(120)], axis=1).astype(float)
    found = fit_bins(scores, COSTS, numbers, KINDS, EVERY)
    assert (found.edges, found.choice.tolist()) == ((1.5,), [0, 1])
    assert fit_bins(scores, COSTS, np.zeros(120), KINDS, EVERY).edges == ()


def test_of_curves_that_answer_alike_the_cheapest_is_taken():
    costs = np.tile([3.0, 1.0, 2.0], (120, 1))
    assert fit_bins(np.ones((120, 3)), costs, np.arange(120.0), KINDS, EVERY).choice.tolist() == [1]


def test_classes_may_each_have_a_bin_of_their_own():
    """Seven classes by turns like curves 0, 1, 2: at most five bins of about equal size would mix them."""
    numbers = np.arange(120.0) % 7
    scores = np.array([numbers % 3 == curve for curve in range(3)], dtype=float).T
    found = fit_bins(scores, COSTS, numbers, KINDS, EVERY)
    assert found.edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    assert found.choice.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(fit_bins(scores, COSTS, numbers + 0.25, KINDS, EVERY).edges) < 5
