"""What each scorer measures; that it is a scorer at all is the contract's business."""

from functools import partial

import pytest
import torch

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention, uneven_attention
from autoprune_lab.selection import diversity, scorers
from autoprune_lab.selection.cdpruner import Cdpruner
from autoprune_lab.selection.greedy import first_picks
from autoprune_lab.selection.mmr import Mmr
from autoprune_lab.selection.recovery import top_n
from autoprune_lab.selection.scope import Scope


def top(scorer, evidence, n):
    return sorted(scorer(evidence)[0].argsort(descending=True, stable=True)[:n].tolist())


@pytest.mark.parametrize(
    ("scorer", "asks"),
    [
        (scorers.text_attention, {"attention"}), (scorers.last_token_attention, {"last_row"}),
        (scorers.rater_attention, {"attention"}), (scorers.cls_attention, {"cls_attention"}),
        (scorers.feature_norm, {"hidden"}), (diversity.max_min_diversity, {"hidden"}),
        (diversity.non_duplication, {"hidden"}), (scorers.random, set()), (scorers.uniform, set()),
    ],
)  # fmt: skip
def test_a_scorer_computes_nothing_that_it_does_not_need(scorer, asks):
    evidence = evidence_of(random_attention(2, 1, 2, 5, 12))
    scorer(evidence)
    scorer(evidence)
    assert evidence.source.asked == sorted(asks)


def test_text_attention_is_the_mean_over_heads_and_real_rows():
    attention = random_attention(3, 1, 2, 5, 4)
    expected = attention[0, :, :3].mean(dim=(0, 1))
    torch.testing.assert_close(scorers.text_attention(evidence_of(attention, None, [3]))[0], expected)


@pytest.mark.parametrize(("n_rows", "raters"), [(5, [1, 3]), (4, [1]), (1, [0])])
def test_rater_attention_is_the_mean_over_rows_that_look_more_than_the_average(n_rows, raters):
    attention = uneven_attention(4, 1)[:, :, [2, 0, 4, 1, 3]]  # visual mass 1/3, 1, 1/5, 1/2, 1/4 of the first's
    scores = scorers.rater_attention(evidence_of(attention, None, [n_rows]))
    torch.testing.assert_close(scores[0], attention[0][:, raters].mean(dim=(0, 1)))


def test_rater_attention_leaves_padded_rows_out_of_the_average():
    attention = uneven_attention(4, 1)[:, :, [0, 1, 1, 4, 4]]  # mean mass 2/3 of three rows, 0.4 of five
    scores = scorers.rater_attention(evidence_of(attention, None, [3]))
    torch.testing.assert_close(scores[0], attention[0, :, 0].mean(0))


def test_rater_attention_takes_every_row_where_none_looks_more_than_another():
    attention = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.0]])[None, None]
    torch.testing.assert_close(scorers.rater_attention(evidence_of(attention))[0], torch.tensor([1 / 3, 1 / 6]))


def greedy_max_min(hidden):
    """DivPrune in plain loops: the order in which tokens are picked."""
    unit = hidden.double() / hidden.double().norm(dim=-1, keepdim=True)
    distance, tokens, picked = (1 - unit @ unit.T).tolist(), range(len(hidden)), []
    while len(picked) < len(hidden):
        gaps = [min(distance[i][j] for j in (picked or tokens) if j != i) for i in tokens if i not in picked]
        picked.append([i for i in tokens if i not in picked][gaps.index(max(gaps))])
    return picked


@pytest.mark.parametrize("held", [None, 0])
def test_max_min_diversity_picks_in_the_order_of_a_plain_greedy_search(monkeypatch, held):
    """Also where the distances are too many to be held: then nobody asks for all of them."""
    if held is not None:
        monkeypatch.setattr(diversity, "_MANY", held)
        monkeypatch.setattr(diversity, "distances", None)
    counts = [40, 23, 2]
    evidence = evidence_of(torch.zeros(3, 1, 1, 40), counts)
    for scores, hidden, count in zip(diversity.max_min_diversity(evidence), evidence.hidden, counts, strict=True):
        assert scores[:count].argsort(descending=True).tolist() == greedy_max_min(hidden[:count])
        assert sorted(scores[:count].tolist()) == list(range(1 - count, 1))


def with_hidden(*tokens, n_vision=None):
    evidence = evidence_of(torch.zeros(1, 1, 1, len(tokens)), n_vision and [n_vision])
    evidence.source.hidden_ = torch.tensor([tokens])
    return evidence


def test_max_min_diversity_picks_the_first_of_equals():
    doubles = with_hidden((2.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 3.0))
    assert diversity.max_min_diversity(doubles).tolist() == [[0, -2, -1, -3]]


def test_padding_is_nobody_s_neighbour():
    wide_apart = with_hidden((-0.5, 0.87), (1.0, 0.0), (-0.64, -0.77), (0.0, 0.0), n_vision=3)
    assert diversity.max_min_diversity(wide_apart)[0, :3].tolist() == [-2, 0, -1]


@pytest.mark.parametrize(
    ("pivots", "expected"),
    [
        (1, [6, 1, 2, 1 - 0.5**0.5]),
        (2, [6, 1 - 0.5**0.5, 1 + 0.5**0.5, 3 + 2**0.5]),
        (9, [6, 4, 4, 3 + 2**0.5]),
    ],
)
def test_non_duplication_puts_pivots_first_then_what_is_least_like_them(pivots, expected):
    evidence = with_hidden((3.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (1.0, 1.0))
    torch.testing.assert_close(diversity.non_duplication(evidence, pivots)[0], torch.tensor(expected))


def test_non_duplication_needs_a_pivot():
    with pytest.raises(ValueError, match="pivots=0 must be >= 1"):
        diversity.non_duplication(with_hidden((1.0, 0.0)), pivots=0)


def test_last_token_attention_and_feature_norm():
    evidence = evidence_of(random_attention(4, 1, 2, 5, 6))
    torch.testing.assert_close(scorers.last_token_attention(evidence)[0], evidence.attention[0, :, -1].mean(0))
    torch.testing.assert_close(scorers.feature_norm(evidence)[0], evidence.hidden[0].pow(2).sum(-1).sqrt())


def test_random_follows_the_seed_and_is_even():
    evidence = evidence_of(torch.zeros(1, 1, 1, 4096))
    first, second = (scorers.random(evidence, seed)[0] for seed in (0, 1))
    assert torch.equal(first, scorers.random(evidence, 0)[0])
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.05
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 0.05
    assert torch.histc(first, bins=8, min=0, max=1).min() > 430
    assert len(first.unique()) > 4090


def test_random_keeps_its_mind_after_a_cut():
    before = evidence_of(torch.zeros(1, 1, 1, 40))
    left = torch.tensor([[3, 8, 9, 30]])
    after = Evidence(3, torch.ones(1, 4, dtype=torch.bool), before.text_mask, left, before.source)
    scorer = partial(scorers.random, seed=7)
    assert torch.equal(scorer(after), scorer(before)[:, left[0]])


@pytest.mark.parametrize("n", [1, 2, 7, 64, 100, 288])
def test_uniform_spreads_any_number_evenly(n):
    chosen = top(scorers.uniform, evidence_of(torch.zeros(1, 1, 1, 576)), n)
    gaps = torch.tensor([*chosen, 576]).diff(prepend=torch.tensor([-1]))
    assert len(set(chosen)) == n
    assert gaps.max() <= 3 * 576 / n + 1


@pytest.mark.parametrize(
    "scorer", [diversity.max_min_diversity, partial(diversity.max_min_diversity), Mmr(), Cdpruner(), Scope()]
)
@pytest.mark.parametrize("n", [0, 1, 5, 12, 40])
def test_of_a_greedy_scorer_the_first_picks_are_the_same_and_no_more_are_made(monkeypatch, scorer, n):
    evidence, steps = evidence_of(random_attention(3, 3, 2, 4, 12), [12, 7, 1]), []
    argmax = torch.Tensor.argmax
    whole = scorer(evidence)
    monkeypatch.setattr(torch.Tensor, "argmax", lambda *args, **named: steps.append(1) or argmax(*args, **named))
    few = first_picks(scorer, evidence, n)
    assert len(steps) == min(n, 12)
    for ours, all_, real in zip(few, whole, evidence.vision_mask, strict=True):
        assert torch.equal(top_n(ours[None, real], torch.tensor([n])), top_n(all_[None, real], torch.tensor([n])))


def test_any_other_scorer_is_simply_asked():
    evidence = evidence_of(random_attention(3, 2, 2, 4, 12))
    assert torch.equal(first_picks(scorers.uniform, evidence, 2), scorers.uniform(evidence))
