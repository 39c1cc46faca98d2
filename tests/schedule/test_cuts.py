"""Plans with few cuts: how many, which staircase, what they cost."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from budget_problems import geometries, n_cuts, problems
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, OwnCurve
from autoprune_lab.schedule.curve import FULL, logistic, whole_tokens
from autoprune_lab.schedule.cuts import nearest_staircase
from autoprune_lab.schedule.flops import flops_ratio, prefill_flops
from autoprune_lab.schedule.geometry import Geometry
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)
COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=7).map(lambda counts: sorted(counts, reverse=True))


@given(problems(limits=st.integers(1, 6)))
def test_no_more_cuts_than_allowed(problem):
    assert n_cuts(problem.fit(), problem.geometry.n_vision) <= problem.max_cuts


@given(problems(limits=st.none()), st.integers(0, 3))
def test_a_plan_of_few_enough_cuts_stays_as_it_is(problem, spare):
    tokens = problem.fit()
    enough = max(n_cuts(tokens, problem.geometry.n_vision), 1 if problem.opening is None else 2) + spare
    assert problem.limited(enough).fit().tolist() == tokens.tolist()


@given(COUNTS, st.integers(1, 4), st.data())
def test_no_staircase_is_nearer(counts, max_cuts, data):
    n_vision, n_layers = 50, len(counts)
    least = data.draw(st.integers(0, n_layers))
    most = data.draw(st.integers(least, n_layers))

    def distance(edges):
        stairs = np.split(np.array(counts), edges)
        first, *others = [stair - (stair.mean() if i and stair.size else n_vision) for i, stair in enumerate(stairs)]
        return float((first**2).sum() + sum((other**2).sum() for other in others))

    ends = combinations_with_replacement(range(n_layers + 1), max_cuts)
    nearest = min(distance(edges) for edges in ends if least <= edges[0] <= most)
    reachable = (np.arange(n_layers + 1) >= least) & (np.arange(n_layers + 1) <= most)
    edges = nearest_staircase(np.array([counts]), reachable[None], np.array([[n_vision]]), max_cuts)[0]
    assert edges[-1] == n_layers
    assert least <= edges[0] <= most
    assert distance(edges[:-1]) == pytest.approx(nearest, abs=1e-6)


@given(
    slope=st.floats(0, 5),
    midpoint=st.floats(2, 31),
    bound=st.builds(Budget, flops_ratio=st.floats(0.3, 1)) | st.builds(Budget, mean_tokens=st.floats(128, 576)),
    max_cuts=st.none() | st.integers(1, 6),
)
def test_99_percent_of_the_budget_is_spent_at_the_size_of_llava(slope, midpoint, bound, max_cuts):
    tokens = bound.fit(logistic(32, slope, midpoint), LLAVA, 2, max_cuts)
    spent = tokens.mean() / bound.mean_tokens if bound.mean_tokens else flops_ratio(LLAVA, tokens) / bound.flops_ratio
    assert 0.99 <= spent <= 1


def test_dropping_before_the_first_layer_is_a_cut():
    geometry = Geometry(8, 64, 128, 4, 4, 16, n_vision=100, n_text=10)
    tokens = Budget(mean_tokens=40).fit(logistic(8, 1.0, 4.0), geometry, free_from=0, max_cuts=2)
    assert tokens.tolist() == [64] * 4 + [16] * 4


def test_the_layers_that_keep_everything_are_a_stair_for_free():
    tokens = Budget(mean_tokens=300).fit(logistic(32, 0.8, 15.0), LLAVA, 2, max_cuts=2)
    assert tokens.tolist() == [576] * 15 + [345] * 2 + [18] * 15


def test_a_stair_that_keeps_everything_is_not_bought_over_the_bound():
    geometry = Geometry(4, 64, 128, 4, 4, 16, n_vision=100, n_text=0)
    tokens = Budget(mean_tokens=49.75).fit(np.array([1.0, 0.99, 0.0, 0.0]), geometry, free_from=1, max_cuts=1)
    assert tokens.tolist() == [100, 33, 33, 33]


@given(
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.lists(st.floats(0, 1.2), min_size=n, max_size=n), geometries(n))),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_without_a_budget_fewer_cuts_cost_no_more_than_the_curve(drawn, n_full, free_from, max_cuts):
    weights, geometry = drawn
    shape = np.sort(np.array(weights))[::-1].copy()
    shape[:n_full] = FULL
    own, few = (OwnCurve().plan(shape[None], [geometry], free_from, limit).tokens[0] for limit in (None, max_cuts))
    full = np.arange(len(shape)) < max(free_from, n_full)
    keep = np.where(full, 1.0, np.minimum(shape, 1.0))
    np.testing.assert_array_equal(own, whole_tokens(keep, geometry.n_vision))
    assert prefill_flops(geometry, few) <= prefill_flops(geometry, own)
    assert n_cuts(few, geometry.n_vision) <= max_cuts
    assert (few[full] == geometry.n_vision).all()
    assert (np.diff(few) <= 0).all()


@pytest.mark.parametrize("budget", [Budget(flops_ratio=0.4), None])
def test_a_pruner_plans_each_sample_with_few_cuts(budget):
    pruner = Pruner(LogisticAdaptivePolicy(), budget, max_cuts=3)
    prompts = [LLAVA, LLAVA.with_tokens(0, 20), LLAVA.with_tokens(300, 30)]
    plan = pruner.plan(np.array([0.2, 0.0, 1.5]), prompts).tokens
    assert [n_cuts(tokens, prompt.n_vision) for tokens, prompt in zip(plan, prompts, strict=True)] == [3, 0, 3]


@pytest.mark.parametrize(
    "limited",
    [
        lambda: Pruner(LayerwisePolicy(), max_cuts=0),
        lambda: Budget(mean_tokens=64).fit(np.ones(32), LLAVA, 2, max_cuts=0),
    ],
)
def test_less_than_one_cut_is_refused(limited):
    with pytest.raises(ValueError, match=r"max_cuts=0 must be at least 1"):
        limited()
