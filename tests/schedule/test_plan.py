"""Plans with merged tokens stay within what is allowed and keep as many as they can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.schedule.official_budget import merged_tokens
from autoprune_lab.schedule.plan import Plan, keep_all
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.keep_distinct import KeepDistinct


@st.composite
def allowances(draw):
    """Tokens allowed entering each layer, never rising, of some samples."""
    n_vision = np.array(draw(st.lists(st.integers(1, 700), min_size=1, max_size=4)))
    parts = draw(st.lists(st.floats(0, 1), min_size=2, max_size=9))
    return np.floor(n_vision[:, None] * np.sort(parts)[::-1]).astype(np.int64), n_vision


@given(allowances())
def test_merged_tokens_count_and_the_allowance_is_used_up(problem):
    allowed, n_vision = problem
    plan = Plan.within(allowed, n_vision, ClusterMerge().split)
    present = np.hstack([n_vision[:, None], plan.tokens[:, :-1]])
    np.testing.assert_array_equal(plan.tokens, np.minimum(allowed, present))
    dropped = present - plan.kept
    assert (plan.kept >= 0).all()
    assert (plan.merged <= merged_tokens(dropped)).all()
    assert (plan.merged[plan.kept > 0] == merged_tokens(dropped)[plan.kept > 0]).all()


@given(allowances())
def test_every_cut_of_a_sample_has_its_own_split_and_later_ones_the_last(problem):
    allowed, n_vision = problem
    splits = [ContextualMerge(0.5).split, keep_all, ClusterMerge().split]
    plan = Plan.within(allowed, n_vision, splits)
    for i, present in enumerate(n_vision):
        n_cuts = 0
        for layer, most in enumerate(allowed[i]):
            kept, merged = splits[min(n_cuts, 2)](np.minimum(most, [present]), np.array([present]))
            assert (plan.kept[i, layer], plan.merged[i, layer]) == (kept[0], merged[0])
            n_cuts, present = n_cuts + (kept[0] < present), kept[0] + merged[0]


def test_the_plan_that_keeps_most_is_taken():
    plan = Plan.within(np.array([[100, 60]]), np.array([100]), ClusterMerge().split)
    kept = int(plan.kept[0, 1])
    sums = [k + int(merged_tokens(np.array(100 - k))) for k in range(101)]
    assert kept == max(k for k in range(101) if sums[k] <= 60) == 58


def test_without_a_split_all_are_kept():
    allowed = np.array([[9, 4, 4, 0]])
    plan = Plan.within(allowed, np.array([9]), keep_all)
    np.testing.assert_array_equal(plan.kept, allowed)
    assert not plan.merged.any()


@pytest.mark.parametrize(("tokens", "kept"), [(64, 54), (128, 108), (192, 162)])
def test_contextual_merge_splits_as_visionzip_does(tokens, kept):
    plan = Plan.within(np.array([[tokens] * 3]), np.array([576]), ContextualMerge().split)
    assert plan.kept.tolist() == [[kept, tokens, tokens]]  # what is there already is not merged again
    assert plan.merged.tolist() == [[tokens - kept, 0, 0]]


@pytest.mark.parametrize("tokens", [32, 64, 128])
def test_keep_distinct_splits_as_vispruner_does(tokens):
    plan = Plan.within(np.array([[576, tokens]]), np.array([576]), KeepDistinct().split)
    assert plan.kept.tolist() == [[576, tokens // 2]]
    assert plan.merged.tolist() == [[0, tokens // 2]]


@pytest.mark.parametrize(
    ("recovery", "kept"), [(KeepDistinct(0.0), 0), (KeepDistinct(1.0), 32), (ContextualMerge(0.0), 32)]
)
def test_a_part_may_be_nothing_or_all(recovery, kept):
    plan = Plan.within(np.array([[576, 32]]), np.array([576]), recovery.split)
    assert (plan.kept.tolist(), plan.merged.tolist()) == ([[576, kept]], [[0, 32 - kept]])


@pytest.mark.parametrize(("kept", "merged"), [(5, 1), (6, -1), (-1, 2), (2, 9)])
def test_a_split_that_breaks_its_contract_is_refused(kept, merged):
    def split(allowed, present):
        return np.full_like(allowed, kept), np.full_like(allowed, merged)

    with pytest.raises(ValueError, match=f"splits 5 of 9 tokens into {kept} kept and {merged} merged"):
        Plan.within(np.array([[5]]), np.array([9]), split)
