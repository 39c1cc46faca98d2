"""Scorers: what each one measures, and that batch and layer do not change what they say."""

from functools import partial

import pytest
import torch
from fake_evidence import evidence_of, random_attention

from autoprune_lab import scoring
from autoprune_lab.evidence import Evidence

SCORERS = [
    scoring.text_attention, scoring.last_token_attention, scoring.cls_attention,
    scoring.feature_norm, scoring.random, scoring.uniform,
]  # fmt: skip


def top(scorer, evidence, n):
    return sorted(scorer(evidence)[0].argsort(descending=True, stable=True)[:n].tolist())


@pytest.mark.parametrize("scorer", SCORERS)
def test_one_finite_score_per_visual_token_that_tells_them_apart(scorer):
    evidence = evidence_of(random_attention(0, 3, 2, 5, 12), [12, 4, 0], [5, 3, 0])
    scores = scorer(evidence)
    assert scores.shape == (3, 12)
    assert scores.isfinite().all()
    assert len(scores[0].unique()) > 6


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_sample_s_scores_do_not_depend_on_its_batch(scorer):
    attention = random_attention(1, 3, 2, 5, 12)
    together = evidence_of(attention, [12, 7, 9], [5, 4, 2])
    one = Evidence(
        together.layer, together.vision_mask[1:2, :7], together.text_mask[1:2, :4], together.index[1:2, :7],
        type(together.source)(
            together.source.attention_[1:2, :, :4, :7], together.source.hidden_[1:2, :7],
            together.source.cls_[1:2, :7],
        ),
    )  # fmt: skip
    if scorer is scoring.last_token_attention:  # the plain source's last row is the padded one: give it the real one
        together.source.attention_ = together.source.attention_[:, :, :4]
    torch.testing.assert_close(scorer(together)[1, :7], scorer(one)[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("scorer", "asks"),
    [
        (scoring.text_attention, {"attention"}), (scoring.last_token_attention, {"last_row"}),
        (scoring.cls_attention, {"cls_attention"}), (scoring.feature_norm, {"hidden"}),
        (scoring.random, set()), (scoring.uniform, set()),
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
    torch.testing.assert_close(scoring.text_attention(evidence_of(attention, None, [3]))[0], expected)


def test_last_token_attention_and_feature_norm():
    evidence = evidence_of(random_attention(4, 1, 2, 5, 6))
    torch.testing.assert_close(scoring.last_token_attention(evidence)[0], evidence.attention[0, :, -1].mean(0))
    torch.testing.assert_close(scoring.feature_norm(evidence)[0], evidence.hidden[0].pow(2).sum(-1).sqrt())


def test_random_follows_the_seed_and_is_even():
    evidence = evidence_of(torch.zeros(1, 1, 1, 4096))
    first, second = (scoring.random(evidence, seed)[0] for seed in (0, 1))
    assert torch.equal(first, scoring.random(evidence, 0)[0])
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.05
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 0.05
    assert torch.histc(first, bins=8, min=0, max=1).min() > 430
    assert len(first.unique()) > 4090


def test_random_keeps_its_mind_after_a_cut():
    before = evidence_of(torch.zeros(1, 1, 1, 40))
    left = torch.tensor([[3, 8, 9, 30]])
    after = Evidence(3, torch.ones(1, 4, dtype=torch.bool), before.text_mask, left, before.source)
    scorer = partial(scoring.random, seed=7)
    assert torch.equal(scorer(after), scorer(before)[:, left[0]])


@pytest.mark.parametrize("n", [1, 2, 7, 64, 100, 288])
def test_uniform_spreads_any_number_evenly(n):
    chosen = top(scoring.uniform, evidence_of(torch.zeros(1, 1, 1, 576)), n)
    gaps = torch.tensor([*chosen, 576]).diff(prepend=torch.tensor([-1]))
    assert len(set(chosen)) == n
    assert gaps.max() <= 3 * 576 / n + 1
