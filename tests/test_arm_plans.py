"""What a pruner asks its policy, and what it plans, by arithmetic alone."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.schedule.official_budget import OfficialBudget
from autoprune_lab.schedule.policy import Policy, Signal
from autoprune_lab.selection.by_cut import ByCut
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.recovery import drop
from policies.fixed import FixedPolicy

PROMPT = Geometry(4, 64, 96, 8, 8, 8, n_vision=100, n_text=10)
BLIND = PROMPT.with_tokens(0, 10)


@dataclass(frozen=True)
class Watched(Policy):
    """A flat curve, higher for more bits."""

    adaptive = True
    asked: list = field(default_factory=list, compare=False)

    def shape(self, signal: Signal) -> np.ndarray:
        self.asked.append((signal.n_layers, signal.complexity))
        return np.full(signal.n_layers, signal.complexity / 10)


@dataclass(frozen=True)
class Unmoved(Watched):
    """The same, but not adaptive."""

    adaptive = False


def test_a_policy_that_reads_no_sample_plans_each_size_once(monkeypatch):
    sizes = [PROMPT, BLIND, PROMPT.with_tokens(50, 0), PROMPT]
    pruner = Pruner(FixedPolicy(layer=1, keep=0.3), Budget(flops_ratio=0.6), probe_layer=0)
    plan = pruner.plan(np.array([3.0, 9.0, 7.0, 1.0]), sizes)
    for i, size in enumerate(sizes):
        np.testing.assert_array_equal(plan.kept[i], replace(pruner).plan(np.zeros(1), [size]).kept[0])
    monkeypatch.setattr(Budget, "fit_batch", None)  # who plans anew, fails
    again = pruner.plan(np.zeros(4), sizes[::-1])
    np.testing.assert_array_equal(again.kept, plan.kept[::-1])
    again.kept[:] = 0  # the caller's own
    np.testing.assert_array_equal(pruner.plan(np.zeros(4), sizes).kept, plan.kept)


@pytest.mark.parametrize("recovery", [drop, ByCut(("merge", "prune"))])
def test_a_budget_that_merges_refuses_a_recovery_that_does_not(recovery):
    with pytest.raises(ValueError, match=r"OfficialBudget plans tokens merged .* recovery (drop|ByCut.*) makes none"):
        Pruner(FixedPolicy(layer=1, keep=0.3), OfficialBudget(mean_tokens=10), recovery=recovery)
    assert Pruner(FixedPolicy(layer=1, keep=0.3), OfficialBudget(mean_tokens=10), recovery=ClusterMerge())


def test_sizes_beyond_what_is_remembered_are_planned_all_the_same(monkeypatch):
    monkeypatch.setattr("autoprune_lab.pruner.MOST_SIZES", 3)
    pruner = Pruner(FixedPolicy(layer=1, keep=0.3), probe_layer=0)
    for first in (1, 3, 1):
        sizes = [PROMPT.with_tokens(n, 10) for n in range(first, first + 2)]
        assert pruner.plan(np.zeros(2), sizes).tokens[:, 0].tolist() == [first, first + 1]
        assert len(pruner._by_size) <= 3


def test_every_sighted_sample_has_its_own_curve():
    pruner = Pruner(Watched(), probe_layer=0)
    plan = pruner.plan(np.array([3.0, 9.0, 7.0]), [PROMPT, BLIND, PROMPT.with_tokens(50, 0)])
    assert pruner.policy.asked == [(4, 3.0), (4, 7.0)]
    assert plan.kept.tolist() == [[100, 30, 30, 30], [0] * 4, [50, 35, 35, 35]]
    assert plan.merged.tolist() == [[0] * 4] * 3


def test_a_policy_that_is_not_adaptive_is_asked_once_and_told_nothing():
    pruner = Pruner(Unmoved(), Budget(mean_tokens=50), probe_layer=0)
    plan = pruner.plan(np.array([3.0, 9.0]), [PROMPT, PROMPT])
    assert pruner.policy.asked == [(4, 0.0)]
    assert plan.tokens.tolist() == [[100, 0, 0, 0]] * 2


@pytest.mark.parametrize(("probe_layer", "full"), [(-1, 0), (0, 1), (1, 2), (2, 3)])
def test_pruning_is_free_from_the_layer_after_the_probe(probe_layer, full):
    pruner = Pruner(FixedPolicy(layer=0, keep=0.25), probe_layer=probe_layer)
    assert pruner.plan(np.zeros(1), [PROMPT]).tokens.tolist() == [[100] * full + [25] * (4 - full)]


def test_only_a_budget_that_must_see_a_set_is_calibrated_and_only_on_pictures():
    bits, prompts = np.array([2.0, 0.0, 4.0]), [PROMPT, BLIND, PROMPT]
    for ready in (Pruner(Watched()), Pruner(Watched(), Budget(mean_tokens=50))):
        assert ready.calibrated(bits, prompts) is ready
    pruner = Pruner(Watched(), MeanBudget(mean_tokens=70), probe_layer=0)
    assert pruner.calibrated(bits[1:2], [BLIND]) is pruner
    found = pruner.calibrated(bits, prompts)
    tokens = found.plan(bits, prompts).tokens
    assert tokens[:, 0].tolist() == [100, 0, 100]
    assert tokens[2, 1] == pytest.approx(2 * tokens[0, 1], abs=1)
    assert 69 < tokens[[0, 2]].mean() <= 70
    assert replace(found, budget=None) == replace(pruner, budget=None)


def test_a_probe_before_the_entrance_is_refused():
    with pytest.raises(ValueError, match="probe_layer=-2 must be at least -1"):
        Pruner(FixedPolicy(), probe_layer=-2)
