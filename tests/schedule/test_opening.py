"""A cut before the probe; that a budget keeps all its promises with one is in test_allocation.py and test_cuts.py."""

import math
from dataclasses import replace

import numpy as np
import pytest
from budget_problems import OPENINGS, WEIGHTS, geometries, n_cuts
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.curve import logistic, staircase
from autoprune_lab.schedule.flops import flops_ratio, prefill_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.schedule.opening import left_open
from autoprune_lab.selection.contextual_merge import ContextualMerge
from policies.complexity_spend import ComplexitySpendPolicy
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)
SHAPE = logistic(32, 0.4, 14.9)
BITS = np.array([0.2, 0.9, 1.7, 0.0])
PROMPTS = [LLAVA, LLAVA.with_tokens(90, 6), LLAVA.with_tokens(0, 20), LLAVA.with_tokens(20, 3)]


@pytest.mark.parametrize(
    ("opening", "left"),
    [
        (None, [576, 60, 1, 0]),
        (32, [32, 32, 1, 0]),
        (1, [1, 1, 1, 0]),
        (0.25, [144, 15, 1, 0]),
        (0.29, [167, 17, 1, 0]),
        (0.001, [1, 1, 1, 0]),
    ],
)
def test_what_an_opening_leaves(opening, left):
    assert left_open(opening, np.array([576, 60, 1, 0])).tolist() == left


def test_a_fraction_that_means_a_whole_number_is_that_number():
    assert left_open(0.29, np.array([100])).tolist() == [29]


@pytest.mark.parametrize("opening", [0, -3, 0.0, 1.0, 32.0, math.nan, math.inf, True])
@pytest.mark.parametrize("kind", [Budget, MeanBudget])
def test_what_is_neither_a_count_nor_a_fraction_is_refused(kind, opening):
    with pytest.raises(ValueError, match=rf"opening={opening!r} must be a whole number of tokens from 1, a fraction"):
        kind(flops_ratio=0.3, opening=opening)


def test_an_opened_prompt_is_planned_like_one_that_never_had_more():
    opened = Budget(mean_tokens=20, opening=64).fit(SHAPE, LLAVA, 3)
    np.testing.assert_array_equal(opened, Budget(mean_tokens=20).fit(SHAPE, LLAVA.with_tokens(64, 64), 3))
    assert opened[:3].tolist() == [64, 64, 64]
    assert 19 < opened.mean() <= 20


def test_a_ratio_is_of_the_whole_prompt():
    tokens = Budget(flops_ratio=0.15, opening=64).fit(SHAPE, LLAVA, 3)
    assert 0.1495 < flops_ratio(LLAVA, tokens) <= 0.15


@pytest.mark.parametrize("bound", [{"flops_ratio": 0.3}, {"mean_tokens": 150}])
@pytest.mark.parametrize("max_cuts", [None, 3])
def test_an_opening_that_drops_nothing_changes_nothing(bound, max_cuts):
    free, wide = (Budget(**bound, opening=opening).fit(SHAPE, LLAVA, 2, max_cuts) for opening in (None, 576))
    np.testing.assert_array_equal(free, wide)
    means = [MeanBudget(**bound, scale=0.7, opening=opening) for opening in (None, 576)]
    plans = [mean.plan(SHAPE[None], [LLAVA], 2, max_cuts).tokens for mean in means]
    np.testing.assert_array_equal(*plans)


def test_a_large_budget_fills_what_is_open_and_no_more():
    assert Budget(flops_ratio=1.0, opening=0.5).fit(SHAPE, LLAVA, 3).tolist() == [288] * 32


def test_the_floor_is_that_of_the_open_layers():
    shape, opened = staircase(32, [5], [0.5]), np.array([32] * 5 + [0] * 27)
    least = Budget(flops_ratio=0.5, opening=32).floor(shape, LLAVA, 3)
    assert least == flops_ratio(LLAVA, opened)
    assert Budget(flops_ratio=least, opening=32).fit(shape, LLAVA, 3).tolist() == opened.tolist()
    with pytest.raises(
        BudgetError, match=r"every visual token that opening=32 leaves \(the first 3 by free_from, 5 FULL"
    ):
        Budget(flops_ratio=math.nextafter(least, 0), opening=32).fit(shape, LLAVA, 3)


def test_the_opening_is_one_of_the_cuts():
    budget = Budget(mean_tokens=20, opening=48)
    prompts = [LLAVA, LLAVA.with_tokens(40, 30)]  # the second one is too small to be opened
    plan = budget.plan(np.stack([SHAPE, SHAPE]), prompts, 2, max_cuts=3).tokens
    assert plan[:, :2].tolist() == [[48, 48], [40, 40]]
    assert [n_cuts(tokens, prompt.n_vision) for tokens, prompt in zip(plan, prompts, strict=True)] == [3, 3]
    assert (plan.mean(1) <= 20).all()


@given(
    st.lists(st.tuples(st.lists(WEIGHTS, min_size=8, max_size=8), geometries(8)), min_size=1, max_size=4),
    OPENINGS,
    st.integers(1, 3),
    st.sampled_from(["flops_ratio", "mean_tokens"]),
    st.floats(0.0, 1.0),
    st.none() | st.integers(2, 8),
)
def test_an_opened_mean_is_never_over_the_bound(samples, opening, free_from, unit, way, max_cuts):
    shapes = np.array([np.sort(np.array(weights))[::-1] for weights, _ in samples])
    prompts = [prompt for _, prompt in samples]
    n_vision = np.array([[prompt.n_vision] for prompt in prompts])
    opened = left_open(opening, n_vision)

    def spent(counts):
        if unit == "mean_tokens":
            return float(np.mean(counts))
        return sum(map(prefill_flops, prompts, counts)) / sum(map(unpruned_flops, prompts))

    full = np.isinf(shapes) | (np.arange(8) < free_from)
    floor, whole = spent(np.where(full, opened, 0)), spent(n_vision.repeat(8, axis=1))
    bound = min(floor + way * (whole - floor) + 1e-9, whole)
    budget = MeanBudget(**{unit: bound}, opening=opening).calibrated(shapes, prompts, free_from)
    counts = budget.plan(shapes, prompts, free_from, max_cuts).tokens
    assert spent(counts) <= bound
    assert (counts <= opened).all()
    assert (counts[full] == opened.repeat(8, axis=1)[full]).all()
    cuts = [n_cuts(tokens, prompt.n_vision) for tokens, prompt in zip(counts, prompts, strict=True)]
    assert max_cuts is None or max(cuts) <= max_cuts


@pytest.mark.parametrize("budget", [Budget(flops_ratio=0.3, opening=32), Budget(mean_tokens=9, opening=0.1)])
@pytest.mark.parametrize("max_cuts", [None, 2])
def test_a_pruner_opens_each_sample_by_itself(budget, max_cuts):
    pruner = Pruner(LogisticAdaptivePolicy(), budget, probe_layer=2, max_cuts=max_cuts)
    together = pruner.plan(BITS, PROMPTS)
    opening = pruner.opens(np.array([prompt.n_vision for prompt in PROMPTS]))
    assert opening.layer == 0
    assert (together.tokens[:, :3] == opening.tokens[:, None]).all()
    for i, prompt in enumerate(PROMPTS):
        assert pruner.plan(BITS[i : i + 1], [prompt]).tokens[0].tolist() == together.tokens[i].tolist()


def test_nothing_is_merged_before_the_probe():
    pruner = Pruner(FixedPolicy(layer=4, keep=0.5), Budget(mean_tokens=60, opening=128), recovery=ContextualMerge())
    plan = pruner.plan(BITS[:1], PROMPTS[:1])
    assert plan.kept[0, :4].tolist() == [128] * 4
    assert plan.merged[0, :4].tolist() == [0] * 4
    assert plan.merged[0, 4] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe_layer": -1}, r"probe_layer=-1 with an opening before layer 0.*take probe_layer >= 0"),
        ({"max_cuts": 1}, r"max_cuts=1 is spent by the opening"),
    ],
)
def test_an_opening_without_room_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Pruner(FixedPolicy(), Budget(flops_ratio=0.3, opening=32)), **changes)


def test_a_shape_may_not_fall_before_the_opening():
    with pytest.raises(ValueError, match="probe_layer=-1 with an opening"):
        Budget(mean_tokens=20, opening=32).fit(SHAPE, LLAVA, 0)


def test_a_saved_pruner_keeps_its_opening(tmp_path):
    for opening in (32, 0.25, None):
        pruner = Pruner(ComplexitySpendPolicy(), MeanBudget(mean_tokens=80, opening=opening), probe_layer=2)
        pruner = pruner.calibrated(BITS, PROMPTS)
        pruner.save(tmp_path / "p.yaml")
        again = Pruner.load(tmp_path / "p.yaml")
        assert again == pruner
        assert type(again.budget.opening) is type(opening)
