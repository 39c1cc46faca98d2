"""Plans with merged tokens stay within what is allowed and keep as many as they can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.official import merged_tokens
from autoprune_lab.plan import Plan


@st.composite
def allowances(draw):
    """Tokens allowed entering each layer, never rising, of some samples."""
    n_vision = np.array(draw(st.lists(st.integers(1, 700), min_size=1, max_size=4)))
    parts = draw(st.lists(st.floats(0, 1), min_size=2, max_size=9))
    return np.floor(n_vision[:, None] * np.sort(parts)[::-1]).astype(np.int64), n_vision


@given(allowances())
def test_merged_tokens_count_and_the_allowance_is_used_up(problem):
    allowed, n_vision = problem
    plan = Plan.within(allowed, n_vision, merged_tokens)
    present = np.hstack([n_vision[:, None], plan.tokens[:, :-1]])
    np.testing.assert_array_equal(plan.tokens, np.minimum(allowed, present))
    dropped = present - plan.kept
    assert (plan.kept >= 0).all()
    assert (plan.merged <= merged_tokens(dropped)).all()
    assert (plan.merged[plan.kept > 0] == merged_tokens(dropped)[plan.kept > 0]).all()


def test_the_plan_that_keeps_most_is_taken():
    plan = Plan.within(np.array([[100, 60]]), np.array([100]), merged_tokens)
    kept = int(plan.kept[0, 1])
    sums = [k + int(merged_tokens(np.array(100 - k))) for k in range(101)]
    assert kept == max(k for k in range(101) if sums[k] <= 60) == 58


@pytest.mark.parametrize("merging", [None, lambda dropped: 0 * dropped])
def test_without_merging_all_are_kept(merging):
    allowed = np.array([[9, 4, 4, 0]])
    plan = Plan.within(allowed, np.array([9]), merging)
    np.testing.assert_array_equal(plan.kept, allowed)
    assert not plan.merged.any()
