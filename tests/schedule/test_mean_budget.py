"""MeanBudget: the mean of a set meets the bound, its samples may differ."""

import numpy as np
import pytest
from budget_problems import WEIGHTS, geometries, n_cuts
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.flops import flops_ratio, prefill_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from policies.complexity_spend import ComplexitySpendPolicy
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)
BITS = np.linspace(0.2, 2.0, 40)


def mean_ratio(prompts, counts):
    spent = sum(prefill_flops(g, row) for g, row in zip(prompts, counts, strict=True))
    return spent / sum(map(unpruned_flops, prompts))


def calibrated(policy, bits=BITS, prompts=None, **bound):
    prompts = prompts or [LLAVA] * len(bits)
    pruner = Pruner(policy, MeanBudget(**bound)).calibrated(bits, prompts)
    return pruner, pruner.plan(bits, prompts).tokens


@given(
    st.lists(geometries(12, most_vision=900), min_size=1, max_size=6),
    st.lists(st.floats(0, 4), min_size=6, max_size=6),
    st.floats(-3, 3),
    st.floats(0.0, 1.0),
)
def test_the_mean_is_never_over_the_bound_and_uses_it(prompts, bits, gain, way):
    pruner, bits = Pruner(ComplexitySpendPolicy(gain)), np.array(bits[: len(prompts)])
    floor = mean_ratio(prompts, [np.where(np.arange(12) < 2, g.n_vision, 0) for g in prompts])
    bound = min(floor + way * (1 - floor) + 1e-9, 1.0)
    budgeted = Pruner(pruner.policy, MeanBudget(flops_ratio=bound)).calibrated(bits, prompts)
    counts = budgeted.plan(bits, prompts).tokens
    assert mean_ratio(prompts, counts) <= bound
    more = Pruner(pruner.policy, MeanBudget(flops_ratio=bound, scale=budgeted.budget.scale * (1 + 1e-9)))
    grown = more.plan(bits, prompts).tokens
    full = (counts == [[g.n_vision] for g in prompts]).all()
    assert full or mean_ratio(prompts, grown) > bound  # the next token would not have fitted


SHAPES = st.lists(WEIGHTS | st.floats(1e-100, 1e100), min_size=8, max_size=8).map(lambda w: np.sort(w)[::-1].copy())


@given(
    st.lists(st.tuples(SHAPES, geometries(8)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from(["flops_ratio", "mean_tokens"]),
    st.floats(0.0, 1.0),
    st.integers(1, 8),
)
def test_no_limit_on_cuts_takes_the_mean_over_the_bound(samples, free_from, unit, way, max_cuts):
    shapes, prompts = np.array([shape for shape, _ in samples]), [prompt for _, prompt in samples]
    spent = mean_ratio if unit == "flops_ratio" else lambda prompts, counts: float(np.mean(counts))
    n_vision = np.array([[prompt.n_vision] for prompt in prompts])
    full = np.isinf(shapes) | (np.arange(8) < free_from)
    floor, whole = spent(prompts, np.where(full, n_vision, 0)), spent(prompts, n_vision.repeat(8, axis=1))
    bound = min(floor + way * (whole - floor) + 1e-9, whole)
    budget = MeanBudget(**{unit: bound}).calibrated(shapes, prompts, free_from)
    free, limited = (budget.plan(shapes, prompts, free_from, limit).tokens for limit in (None, max_cuts))
    assert spent(prompts, limited) <= spent(prompts, free) <= bound
    assert all(n_cuts(tokens, prompt.n_vision) <= max_cuts for tokens, prompt in zip(limited, prompts, strict=True))
    assert (limited[full] == np.broadcast_to(n_vision, full.shape)[full]).all()
    few = [n_cuts(tokens, prompt.n_vision) <= max_cuts for tokens, prompt in zip(free, prompts, strict=True)]
    assert spent(prompts, limited) == spent(prompts, free) or not all(few)


@pytest.mark.parametrize("bound", [{"mean_tokens": 640}, {"flops_ratio": 0.25}])
@pytest.mark.parametrize("max_cuts", [1, 2, 3])
def test_with_few_cuts_a_long_prompt_stays_just_below_the_bound(bound, max_cuts):
    prompts = [LLAVA.with_tokens(2880, n_text) for n_text in range(20, 100, 2)]
    pruner = Pruner(ComplexitySpendPolicy(), MeanBudget(**bound), max_cuts=max_cuts).calibrated(BITS, prompts)
    counts = pruner.plan(BITS, prompts).tokens
    spent = counts.mean() / 640 if "mean_tokens" in bound else mean_ratio(prompts, counts) / 0.25
    assert 0.999 < spent <= 1


def test_weights_as_far_apart_as_the_shelfs_are_scaled_to_the_bound():
    """From e^-300 to e^300: the sample of the large weights fills up first, the other takes the rest."""
    _, counts = calibrated(ComplexitySpendPolicy(gain=100.0), np.array([-3.0, 3.0]), mean_tokens=432)
    assert (counts[0] == 576).all()
    assert 287 < counts[1].mean() <= 288
    _, counts = calibrated(ComplexitySpendPolicy(gain=100.0), np.array([-3.0, 3.0]), mean_tokens=144)
    assert (counts[1][2:] == 0).all()
    assert counts.mean() == pytest.approx(144, abs=1)


def test_samples_of_little_mutual_information_get_more():
    _, counts = calibrated(ComplexitySpendPolicy(), flops_ratio=0.35)
    ratios = [flops_ratio(LLAVA, row) for row in counts]
    assert (np.diff(ratios) < 0).all()
    assert max(ratios) > 0.4 > 0.35 > 0.25 > min(ratios)
    assert 0.3465 <= np.mean(ratios) <= 0.35


def test_a_budget_per_sample_scales_the_difference_away():
    plan = Pruner(ComplexitySpendPolicy(), Budget(flops_ratio=0.35)).plan(BITS, [LLAVA] * len(BITS)).tokens
    assert (plan == plan[0]).all()


def test_a_bound_in_tokens():
    _, counts = calibrated(ComplexitySpendPolicy(), mean_tokens=128)
    assert 127 < counts.mean() <= 128


def test_a_plan_depends_on_no_other_sample():
    pruner, counts = calibrated(LogisticAdaptivePolicy(x_gamma=-4.0), flops_ratio=0.4)
    for i in (0, 7, 39):
        assert pruner.plan(BITS[i : i + 1], [LLAVA]).tokens[0].tolist() == counts[i].tolist()


def test_prompts_without_pictures_do_not_disturb():
    blind = LLAVA.with_tokens(0, 64)
    pruner, counts = calibrated(ComplexitySpendPolicy(), BITS[:2], [LLAVA, blind], flops_ratio=0.4)
    assert counts[1].tolist() == [0] * 32
    assert flops_ratio(LLAVA, counts[0]) == pytest.approx(0.4, abs=0.004)
    assert pruner.budget.ready


def test_a_second_calibration_changes_nothing():
    pruner, _ = calibrated(ComplexitySpendPolicy(), flops_ratio=0.4)
    assert pruner.calibrated(BITS[:3], [LLAVA] * 3) == pruner


def test_a_saved_pruner_keeps_its_calibration(tmp_path):
    pruner, _ = calibrated(ComplexitySpendPolicy(), flops_ratio=0.4)
    pruner.save(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml") == pruner


def test_what_is_not_calibrated_cannot_plan():
    with pytest.raises(ValueError, match=r"not calibrated: use pruner.calibrated"):
        Pruner(ComplexitySpendPolicy(), MeanBudget(flops_ratio=0.4)).plan(BITS, [LLAVA] * len(BITS))


def test_an_unreachable_mean_names_the_floor_and_how_much_is_missing():
    with pytest.raises(BudgetError, match=r"cost 0\.3\d+ in the mean of 40 samples") as caught:
        calibrated(FixedPolicy(layer=8), flops_ratio=0.2)
    assert 0.1 < caught.value.missing < 0.2


@pytest.mark.parametrize("fields", [{}, {"flops_ratio": 0.3, "mean_tokens": 3}, {"flops_ratio": 2.0}])
def test_a_wrong_bound_is_refused(fields):
    with pytest.raises(ValueError, match=r"flops_ratio|exactly one"):
        MeanBudget(**fields)


def test_a_wrong_scale_is_refused():
    with pytest.raises(ValueError, match="scale=-1"):
        MeanBudget(flops_ratio=0.3, scale=-1.0)
