"""The paired bootstrap against what is known of it."""

import numpy as np
import pytest
from scipy.stats import norm

from autoprune_lab.statistics.resampling import difference, interval, resampled


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_interval_of_a_mean_is_the_normal_one_for_many_samples(rng):
    scores = rng.binomial(1, 0.7, (1, 1500)).astype(float)
    low, high = interval(resampled(scores, ["a"] * 1500)[:, 0])
    half = 1.96 * scores.std() / np.sqrt(1500)
    assert low == pytest.approx(scores.mean() - half, abs=0.003)
    assert high == pytest.approx(scores.mean() + half, abs=0.003)


def test_an_interval_leaves_out_as_much_on_either_side():
    draws = np.arange(1001.0)
    assert interval(draws) == pytest.approx((25, 975))
    assert interval(draws, level=0.5) == pytest.approx((250, 750))


def test_kinds_weigh_alike_and_are_never_exchanged():
    scores = np.array([[1.0, 1.0, 1.0, 0.0]])
    assert (resampled(scores, ["a", "a", "a", "b"]) == 0.5).all()


def test_arms_see_the_same_samples(rng):
    one = rng.binomial(1, 0.5, 400).astype(float)
    draws = resampled(np.stack([one, one, np.append(one[:-1], 1 - one[-1])]), ["a"] * 400)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert np.ptp(draws[:, 0]) > 0.1
    assert np.abs(draws[:, 0] - draws[:, 2]).max() < 0.03  # one sample of 400, drawn a few times at most


def test_same_seed_same_draws(rng):
    scores = rng.random((2, 30))
    first, again, other = (resampled(scores, ["a"] * 30, draws=50, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("shape", "kinds"), [((1, 3), ["a"]), ((1, 0), [])])
def test_one_kind_a_sample_is_needed(shape, kinds):
    with pytest.raises(ValueError, match="one kind a sample"):
        resampled(np.zeros(shape), kinds)


def test_the_difference_of_two_arms_is_paired_and_its_interval_the_normal_one(rng):
    left = rng.binomial(1, 0.7, 1500).astype(float)
    right = np.where(rng.random(1500) < 0.06, 1 - left, left)  # unpaired, the interval would be three times as wide
    found = difference(left[None], right[None], ["a"] * 1500)
    half = 1.96 * (left - right).std() / np.sqrt(1500)
    assert found.value == pytest.approx((left - right).mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.003)


def test_the_p_value_is_the_two_sided_one_of_a_normal_difference(rng):
    gaps = np.where(rng.random(1500) < 0.4, rng.choice([-1.0, 1.0], 1500), 0.0)
    for mean in (0.0, 0.5, 1.0, -2.0):  # of the difference, in standard errors
        shifted = gaps - gaps.mean() + mean * gaps.std() / np.sqrt(1500)
        found = difference(shifted[None], np.zeros((1, 1500)), ["a"] * 1500)
        assert found.p == pytest.approx(2 * norm.sf(abs(mean)), abs=0.03)
    assert difference(np.ones((1, 50)), np.zeros((1, 50)), ["a"] * 50, draws=999).p == 2 / 1000  # the least there is


def test_no_difference_is_seldom_found_where_there_is_none_and_always_where_it_is_large(rng):
    scores = rng.binomial(1, 0.8, (200, 2, 150)).astype(float)
    found = [difference(pair[:1], pair[1:], ["a"] * 150, draws=500).p < 0.05 for pair in scores]
    assert 0.01 <= np.mean(found) <= 0.1
    assert difference(np.ones((1, 50)), np.zeros((1, 50)), ["a"] * 50).p < 0.001
    assert difference(np.ones((1, 50)), np.ones((1, 50)), ["a"] * 50).p == 1.0


def test_seeds_on_a_side_count_by_their_mean(rng):
    left = rng.binomial(1, 0.7, (3, 40)).astype(float)
    right, kinds = rng.binomial(1, 0.5, (1, 40)).astype(float), ["a", "b"] * 20
    found, of_mean = difference(left, right, kinds), difference(left.mean(axis=0)[None], right, kinds)
    assert found.value == pytest.approx(of_mean.value)
    assert (found.low, found.high) == pytest.approx((of_mean.low, of_mean.high))
