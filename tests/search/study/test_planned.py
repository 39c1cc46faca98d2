"""What a pruner will cost, by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from fake_evaluator import SMALL

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio, prefill_flops, unpruned_flops
from autoprune_lab.schedule.official_budget import OfficialBudget
from autoprune_lab.selection import scorers
from autoprune_lab.selection.cluster_merge import ClusterMerge
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.config.schema import BudgetSettings
from search.study.planned import planned

QUARTER = Pruner(FixedPolicy(layer=4, keep=0.25))
COUNTS = np.array([144] * 4 + [36] * 12)
PROMPTS = [SMALL, SMALL.with_tokens(144, 30), SMALL.with_tokens(0, 8)]


def plan(pruner=QUARTER, prompts=PROMPTS):
    return planned(pruner, np.zeros(len(prompts)), prompts)


def test_ratios_are_of_sums_over_the_samples():
    found = plan()
    blind = np.zeros(16, dtype=int)
    pairs = list(zip(PROMPTS, (COUNTS, COUNTS, blind), strict=True))
    assert found.plan.tokens.tolist() == [counts.tolist() for _, counts in pairs]
    spent = sum(prefill_flops(prompt, counts) for prompt, counts in pairs)
    assert found.flops_ratio == pytest.approx(spent / sum(map(unpruned_flops, PROMPTS)))
    held, text = 2 * COUNTS.sum(), 16 * (12 + 30 + 8)
    assert found.kv_ratio == pytest.approx((held + text) / (2 * 16 * 144 + text))
    assert found.kept == pytest.approx((4 + 12 / 4) / 16)
    assert found.mean_tokens == pytest.approx(2 * COUNTS.mean() / 3)
    names = {"planned_ratio": found.flops_ratio, "mean_tokens": found.mean_tokens, "kv_ratio": found.kv_ratio}
    assert found.attributes == names
    measured = SimpleNamespace(flops_ratio=0.123)
    costs = [found.cost(name, measured) for name in ("flops_ratio", "kv_bytes", "mean_tokens")]
    assert costs == [0.123, found.kv_ratio, found.kept]


def test_prompts_without_pictures_keep_nothing_and_cost_what_they_cost():
    found = plan(prompts=PROMPTS[2:])
    assert (found.flops_ratio, found.kv_ratio, found.kept, found.mean_tokens) == (1.0, 1.0, 0.0, 0.0)


def test_over_says_by_how_much_in_the_bound_s_own_unit():
    found = plan(prompts=[SMALL])
    ratio = flops_ratio(SMALL, COUNTS)
    assert found.over(BudgetSettings(flops_ratio=0.3)) == pytest.approx(ratio - 0.3)
    assert found.over(BudgetSettings(mean_tokens=70.0)) == pytest.approx(63 - 70)
    assert found.over(BudgetSettings()) == pytest.approx(ratio - 1)
    assert found.over(BudgetSettings(flops_ratio=1.0, mean_tokens=60.0)) == pytest.approx(3)


def test_pruners_that_keep_the_same_tokens_have_one_key():
    key = plan().key(QUARTER)
    for same in (
        dataclasses.replace(QUARTER, policy=FixedPolicy(layer=4, keep=0.2501)),
        dataclasses.replace(QUARTER, budget=Budget(mean_tokens=63)),
        dataclasses.replace(QUARTER, max_cuts=1),
        dataclasses.replace(QUARTER, opening_scorer=scorers.random),  # nothing opens
    ):
        assert plan(same).key(same) == key
    for other in (
        dataclasses.replace(QUARTER, policy=FixedPolicy(layer=4, keep=0.3)),
        dataclasses.replace(QUARTER, scorer=scorers.random),
        dataclasses.replace(QUARTER, recovery=ClusterMerge()),
        dataclasses.replace(QUARTER, probe_layer=0),
        dataclasses.replace(QUARTER, positions="compact"),
    ):
        assert plan(other).key(other) != key


@pytest.mark.parametrize("budget", [OfficialBudget(40), Budget(mean_tokens=40, opening=64)])
def test_who_chooses_at_an_opening_cut_is_part_of_the_key(budget):
    pruner = Pruner(LogisticAdaptivePolicy(), budget, recovery=ClusterMerge())
    opened = dataclasses.replace(pruner, opening_scorer=scorers.random)
    assert plan(pruner, [SMALL]).key(pruner) != plan(opened, [SMALL]).key(opened)


def test_openings_that_leave_the_same_tokens_have_one_key():
    whole = Pruner(FixedPolicy(layer=4), Budget(mean_tokens=40))
    narrow = dataclasses.replace(whole, budget=Budget(mean_tokens=30, opening=36), scorer=scorers.feature_norm)
    wide = dataclasses.replace(whole, budget=Budget(mean_tokens=40, opening=144))

    def key(pruner):
        return plan(pruner, [SMALL]).key(pruner)

    assert key(wide) == key(whole)
    part = dataclasses.replace(narrow, budget=Budget(mean_tokens=30.01, opening=0.25))
    assert key(part) == key(narrow) == key(dataclasses.replace(narrow, opening_scorer=scorers.feature_norm))
    assert key(narrow) != key(dataclasses.replace(narrow, opening_scorer=scorers.random))


def test_an_opening_is_in_the_cost_and_the_fraction_kept():
    found = plan(Pruner(FixedPolicy(layer=4, keep=0.5), Budget(flops_ratio=0.25, opening=32)), [SMALL])
    assert found.plan.tokens[0, :4].tolist() == [32] * 4
    assert found.flops_ratio == flops_ratio(SMALL, found.plan.tokens[0])
    assert found.kept == found.plan.tokens.mean() / 144


def test_what_enters_each_layer_is_told_of_the_samples_that_have_pictures():
    found = plan().kept_by_layer
    assert found == {name: [1.0] * 4 + [0.25] * 12 for name in ("mean", "least", "most")}
    assert plan(prompts=PROMPTS[2:]).kept_by_layer == {}
    adaptive = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.4))
    spread = planned(adaptive, np.array([0.1, 3.0]), PROMPTS[:2]).kept_by_layer
    counts = adaptive.plan(np.array([0.1, 3.0]), PROMPTS[:2]).tokens / 144
    assert spread["least"] == counts.min(0).round(4).tolist()
    assert spread["mean"] == counts.mean(0).round(4).tolist()
    assert spread["least"] != spread["most"]
