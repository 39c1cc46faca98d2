"""Mutual information against its definition, its bounds, padding, and the official code's numbers."""

import math

import pytest
import torch
from golden_information import GOLDEN, golden_attention
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune_lab.evidence.complexity import (
    attention_entropy,
    mutual_information,
    official_bits,
    rows_entropy,
    rows_mutual_information,
)
from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention


def by_definition(attention):
    """Mean over heads of mean_t KL(p(v|t) || p(v)), in float64 loops; attention (heads, rows, vision)."""
    total = 0.0
    for head in attention.double().numpy():
        p = head / head.sum(1, keepdims=True)
        marginal = p.mean(0)
        terms = [x * math.log2(x / m) for row in p for x, m in zip(row, marginal, strict=True) if x > 0]
        total += sum(terms) / len(p)
    return total / len(attention)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_official_estimator_gives_the_official_numbers(case):
    assert official_bits(torch.from_numpy(golden_attention(case))) == pytest.approx(case["mi_sum_fp32"], abs=1e-6)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_without_eps_and_sum_ours_is_the_exact_value(case):
    attention = torch.from_numpy(golden_attention(case))
    mass = attention[0, 0].sum().item()  # the same in every row, or our value would not follow from the golden one
    torch.testing.assert_close(attention.sum(-1), torch.full(attention.shape[:2], mass), atol=0, rtol=1e-4)
    exact = case["mi_sum_exact_eps0"] / mass / len(attention)
    mask = torch.ones(1, attention.shape[1], dtype=torch.bool)
    assert rows_mutual_information(attention[None], mask).item() == pytest.approx(exact, abs=5e-6)


@pytest.mark.parametrize("mass", [1.0, 0.3, 1e-6, 1e-20])
def test_equals_the_definition_whatever_the_visual_mass(mass):
    attention = random_attention(0, 2, 3, 7, 12, mass=mass)
    got = mutual_information(evidence_of(attention))
    assert got.tolist() == pytest.approx([by_definition(a) for a in attention], rel=1e-4)
    assert got.min() > 0.1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    heads=st.integers(1, 4),
    rows=st.integers(1, 9),
    vision=st.integers(1, 20),
    peak=st.sampled_from([0.0, 0.1, 1.0, 10.0, 200.0]),
)
def test_bounds(seed, heads, rows, vision, peak):
    evidence = evidence_of(random_attention(seed, 1, heads, rows, vision, peak))
    assert 0 <= mutual_information(evidence).item() <= math.log2(min(rows, vision)) + 1e-5
    assert -1e-6 <= attention_entropy(evidence).item() <= math.log2(vision) + 1e-5


def test_extremes_are_exact():
    identity, flat = torch.eye(4)[None, None], torch.full((1, 1, 4, 4), 0.25)
    assert mutual_information(evidence_of(identity)).item() == 2.0
    assert attention_entropy(evidence_of(identity)).item() == 0.0
    assert mutual_information(evidence_of(flat)).item() == 0.0
    assert attention_entropy(evidence_of(flat)).item() == 2.0


def test_rows_that_are_all_alike_have_no_bits_and_never_less_than_none():
    alike = torch.cat([random_attention(seed, 1, 2, 1, 12) for seed in range(50)]).expand(-1, -1, 7, -1)
    bits = mutual_information(evidence_of(alike))
    assert 0 <= bits.min() <= bits.max() < 1e-6


@pytest.mark.parametrize("estimator", [mutual_information, attention_entropy])
def test_padding_changes_nothing(estimator):
    attention = random_attention(3, 3, 2, 9, 16)
    sizes = [(9, 16), (4, 7), (1, 3)]
    padded = estimator(evidence_of(attention, [v for _, v in sizes], [r for r, _ in sizes]))
    alone = [estimator(evidence_of(attention[i : i + 1, :, :r, :v])).item() for i, (r, v) in enumerate(sizes)]
    assert padded.tolist() == pytest.approx(alone, abs=1e-6)
    assert len({round(x, 3) for x in alone}) > 1


@pytest.mark.parametrize("estimator", [mutual_information, attention_entropy])
def test_rows_that_see_no_visual_token_are_left_out(estimator):
    attention = random_attention(4, 1, 2, 6, 10)
    blind = attention.clone()
    blind[:, 0, 4:] = 0.0  # one head's last two rows
    blind[:, 1, 4:] = 1e-38
    expected = estimator(evidence_of(attention[:, :, :4]))
    torch.testing.assert_close(estimator(evidence_of(blind)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2, 3, 4, 0)])
def test_no_rows_or_no_visual_tokens_are_zero_bits(shape):
    attention = torch.zeros(shape)
    assert mutual_information(evidence_of(attention)).tolist() == [0.0, 0.0]
    assert attention_entropy(evidence_of(attention)).tolist() == [0.0, 0.0]


def test_a_sample_without_visual_tokens_in_a_batch_is_zero_bits():
    evidence = evidence_of(random_attention(5, 2, 2, 6, 10), [10, 0], [6, 0])
    bits = mutual_information(evidence)
    assert bits[0] > 0.1
    assert bits[1] == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    attention = random_attention(6, 1, 4, 8, 16, mass=1.0).to(dtype)
    got = rows_mutual_information(attention, torch.ones(1, 8, dtype=torch.bool))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(by_definition(attention[0].float()), abs=1e-5)


@pytest.mark.parametrize("function", [rows_mutual_information, rows_entropy])
def test_nan_is_not_hidden(function):
    attention = random_attention(7, 2, 2, 5, 6)
    attention[1, 0, 2, 3] = torch.nan
    got = function(attention, torch.ones(2, 5, dtype=torch.bool))
    assert got.isnan().tolist() == [False, True]


def test_official_estimator_refuses_a_prompt_without_text():
    with pytest.raises(ValueError, match="0 text rows"):
        official_bits(torch.zeros(2, 0, 4))
