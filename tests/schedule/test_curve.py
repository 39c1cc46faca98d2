import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.schedule.curve import FULL, logistic, staircase, whole_tokens


def test_tokens_round_down_but_forgive_float_noise():
    assert whole_tokens(np.array([1.0, 0.29, 0.289, 0.0]), 100).tolist() == [100, 29, 28, 0]


@pytest.mark.parametrize("n_vision", [1, 7, 100, 576, 2880])
def test_tokens_of_an_exact_count_are_that_count(n_vision):
    counts = np.arange(n_vision, -1, -1)
    assert whole_tokens(counts / n_vision, n_vision).tolist() == counts.tolist()


def test_logistic_equals_its_formula():
    expected = [1 / (1 + np.exp(0.4 * (layer - 14.9))) for layer in range(32)]
    np.testing.assert_allclose(logistic(32, 0.4, 14.9), expected, rtol=1e-12)


def test_logistic_of_slope_zero_is_flat_half():
    np.testing.assert_allclose(logistic(5, 0.0, 14.9), 0.5, rtol=1e-15)


@given(st.integers(1, 80), st.floats(0, 1e6), st.floats(-1e6, 1e6))
def test_logistic_never_rises_nor_overflows(n_layers, slope, midpoint):
    with np.errstate(over="raise", invalid="raise"):
        curve = logistic(n_layers, slope, midpoint)
    assert curve.shape == (n_layers,)
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (np.diff(curve) <= 0).all()


@pytest.mark.parametrize(("slope", "midpoint"), [(-0.1, 3.0), (float("nan"), 3.0), (0.4, float("inf"))])
def test_logistic_refuses_what_would_rise_or_be_undefined(slope, midpoint):
    with pytest.raises(ValueError, match="slope must be finite"):
        logistic(8, slope, midpoint)


def test_staircase_is_full_before_its_first_step():
    assert staircase(6, [2, 4], [0.5, 0.25]).tolist() == [FULL, FULL, 0.5, 0.5, 0.25, 0.25]


def test_a_step_past_the_last_layer_does_not_happen():
    assert staircase(2, [2], [0.5]).tolist() == [FULL, FULL]


@pytest.mark.parametrize(
    ("layers", "keep"),
    [([2, 1], [0.5, 0.2]), ([2], [0.5, 0.2]), ([-1], [0.5]), ([1, 2], [0.2, 0.5]), ([1], [-0.5])],
)
def test_staircase_refuses_disorder(layers, keep):
    with pytest.raises(ValueError, match="staircase"):
        staircase(8, layers, keep)
