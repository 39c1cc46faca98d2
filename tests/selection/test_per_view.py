"""A budget per view: how the kept tokens are shared out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.plain_evidence import evidence_of, part_of, random_attention
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.selection.per_view import per_view
from policies.fixed import FixedPolicy
from search.config.experiment import Experiment


def evidence(seed: int = 0, size: int = 2) -> Evidence:
    return evidence_of(random_attention(seed, size, 2, 3, 24))


def kept(scores: torch.Tensor, n: int) -> torch.Tensor:
    """Views of the top n of sample 0, three views of eight."""
    return scores[0].argsort(descending=True, stable=True)[:n] // 8


@given(st.lists(st.floats(0.1, 5), min_size=3, max_size=3), st.integers(1, 24))
def test_every_cut_is_shared_out_by_the_shares(shares, n):
    """No view is more than a token away from its quota, or from all that it holds."""
    counts = kept(per_view(evidence(), shares=shares, tokens_per_view=8), n).bincount(minlength=3)
    assert counts.sum() == n
    if counts.max() < 8:
        quota = torch.tensor(shares) / sum(shares) * n
        assert (counts - quota).abs().max() <= 1.5


def test_twice_the_share_is_twice_the_tokens():
    counts = kept(per_view(evidence(), shares=(1, 2, 1), tokens_per_view=8), 12).bincount(minlength=3)
    assert counts.tolist() == [3, 6, 3]
    assert torch.equal(
        per_view(evidence(), tokens_per_view=8), per_view(evidence(), shares=(1, 2, 1), tokens_per_view=8)
    )
    assert torch.equal(per_view(evidence()), per_view(evidence(), tokens_per_view=64))


def test_within_a_view_the_scorer_decides():
    seen = evidence()
    plain, shared = scorers.last_token_attention(seen), per_view(seen, shares=(3, 1, 1), tokens_per_view=8)
    for view in range(3):
        part = slice(8 * view, 8 * view + 8)
        assert plain[:, part].argsort(descending=True).tolist() == shared[:, part].argsort(descending=True).tolist()


def test_a_view_without_a_share_comes_last_and_a_full_one_leaves_room():
    scores = per_view(evidence(), shares=(1, 0, 0.001), tokens_per_view=8)
    assert set(kept(scores, 16).tolist()) == {0, 2}
    assert kept(scores, 24).bincount().tolist() == [8, 8, 8]
    seen, none = evidence(), slice(8, 16)  # among those of no share the scorer decides
    assert scores.isfinite().all()
    plain = scorers.last_token_attention(seen)
    assert plain[:, none].argsort(descending=True).tolist() == scores[:, none].argsort(descending=True).tolist()


def test_tokens_that_are_gone_do_not_count():
    """After a first cut the views are told by index, and ranks start anew."""
    whole = evidence(size=1)
    present = torch.tensor([0, 3, 9, 10, 12, 17, 20, 22])
    seen = part_of(whole, 0, torch.arange(3), present)
    order = per_view(seen, shares=(1, 1, 1), tokens_per_view=8)[0].argsort(descending=True, stable=True)
    assert (present[order[:3]] // 8).sort().values.tolist() == [0, 1, 2]
    assert (present[order[:6]] // 8).bincount().tolist() == [2, 2, 2]


def test_padding_never_takes_a_real_token_s_rank():
    attention = random_attention(1, 2, 2, 3, 24)
    padded = per_view(evidence_of(attention, [24, 10]), tokens_per_view=8)[1, :10]
    alone = per_view(evidence_of(attention[1:, :, :, :10]), tokens_per_view=8)[0]
    assert padded.tolist() == alone.tolist()


def test_more_tokens_than_the_views_hold_are_refused():
    with pytest.raises(ValueError, match="more than 18 visual tokens, 3 views of 6"):
        per_view(evidence(), tokens_per_view=6)


@pytest.mark.parametrize("shares", [(), (0, 0), (1, -1)])
def test_shares_that_share_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="need shares >= 0"):
        per_view(evidence(), shares=shares, tokens_per_view=12)


def test_it_is_a_scorer_like_any_other_and_can_be_saved(tmp_path):
    pruner = Experiment.compose(["scorer=per_view", "policy=fixed"]).pruner()
    pruner.save(tmp_path / "p.yaml")
    again = Pruner.load(tmp_path / "p.yaml")
    assert isinstance(again.policy, FixedPolicy)
    assert again.scorer.keywords["scorer"] is scorers.last_token_attention
    assert list(again.scorer.keywords["shares"]) == [1.0, 2.0, 1.0]
