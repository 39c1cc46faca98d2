"""What a budget accepts, refuses and says; its promises on random problems are in test_allocation.py."""

import math
import pickle

import numpy as np
import pytest

from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.curve import logistic, staircase
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)


def test_one_unreachable_sample_refuses_the_batch():
    shapes = np.stack([logistic(32, 0.4, 14.9), staircase(32, [20], [0.5])])
    with pytest.raises(BudgetError, match="20 FULL"):
        Budget(flops_ratio=0.4).fit_batch(shapes, [LLAVA, LLAVA], 2)


def test_what_a_worker_process_refuses_is_told_in_another():
    found = pickle.loads(pickle.dumps(BudgetError("unreachable", 0.02)))
    assert (str(found), found.missing) == ("unreachable", 0.02)


def test_equal_weights_share_to_within_one_token_and_the_lower_layers_come_first():
    tokens = Budget(mean_tokens=10.2).fit(np.full(10, 0.7), Geometry(10, 8, 8, 1, 1, 8, n_vision=576, n_text=0), 0)
    assert tokens.tolist() == [11, 11] + [10] * 8


def test_only_the_proportions_of_a_shape_matter():
    shape = logistic(32, 0.3, 14.9)
    tokens = Budget(mean_tokens=64).fit(shape, LLAVA, 2)
    np.testing.assert_array_equal(Budget(mean_tokens=64).fit(shape / 8, LLAVA, 2), tokens)


def test_the_whole_budget_keeps_everything():
    assert (Budget(flops_ratio=1.0).fit(logistic(32, 0.4, 14.9), LLAVA, 2) == 576).all()


def test_the_floor_is_reached_exactly_and_nothing_below_it():
    shape = staircase(32, [4], [0.5])
    least = Budget(flops_ratio=0.5).floor(shape, LLAVA, 2)
    assert least == flops_ratio(LLAVA, np.array([576] * 4 + [0] * 28))
    assert Budget(flops_ratio=least).fit(shape, LLAVA, 2).tolist() == [576] * 4 + [0] * 28
    with pytest.raises(BudgetError):
        Budget(flops_ratio=math.nextafter(least, 0)).fit(shape, LLAVA, 2)


def test_an_unreachable_bound_names_bound_floor_and_reason():
    message = r"flops_ratio=0.1 is unreachable: 64 text.*first 2 by free_from, 3 FULL.*cost 0.1\d+; raise"
    with pytest.raises(BudgetError, match=message):
        Budget(flops_ratio=0.1).fit(staircase(32, [3], [0.5]), LLAVA, 2)


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"flops_ratio": 0.5, "mean_tokens": 64.0},
        {"flops_ratio": 0.0},
        {"flops_ratio": 1.1},
        {"mean_tokens": 0.0},
        {"flops_ratio": math.nan},
        {"mean_tokens": math.inf},
    ],
)
def test_a_budget_is_one_bound_in_range(bounds):
    with pytest.raises(ValueError, match=r"flops_ratio|mean_tokens"):
        Budget(**bounds)


@pytest.mark.parametrize(
    ("shape", "free_from", "message"),
    [
        (np.linspace(0, 1, 32), 2, "rise"),
        (np.full(32, math.nan), 2, "NaN"),
        (np.full(32, -1.0), 2, "negative"),
        (np.ones(31), 2, "layers"),
        (np.ones(32), -1, "free_from=-1"),
    ],
)
def test_what_is_no_shape_is_refused(shape, free_from, message):
    with pytest.raises(ValueError, match=message):
        Budget(flops_ratio=0.5).fit(shape, LLAVA, free_from)
