"""The two estimators of mutual information side by side: each step alone, and that they add up."""

import math

import pytest
import torch
from golden_information import GOLDEN, golden_attention

from autoprune_lab.evidence.complexity import mutual_information, mutual_information_official, official_bits
from autoprune_lab.evidence.estimator_gap import EstimatorGap, estimator_gap, plot_gaps
from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention, uneven_attention


def attention_of(n_heads=4, rows=7, vision=12, mass=0.3, seed=0):
    return random_attention(seed, 1, n_heads, rows, vision, mass=mass)[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_steps_lead_from_one_estimator_to_the_other(seed):
    attention = uneven_attention(seed, 1)
    gap, evidence = estimator_gap(attention[0]), evidence_of(attention)
    assert gap.normalised == pytest.approx(mutual_information(evidence).item(), abs=1e-6)
    assert gap.official == pytest.approx(mutual_information_official(evidence).item(), abs=1e-6)
    assert min(abs(part) for part in vars(gap).values()) > 1e-7  # no step is empty here


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_the_golden_cases_are_taken_apart(case):
    gap = estimator_gap(torch.from_numpy(golden_attention(case)))  # rounded to float32, the numbers are not
    assert gap.official == pytest.approx(case["mi_sum_fp64"], abs=1e-8)
    assert gap.official - gap.eps == pytest.approx(case["mi_sum_exact_eps0"], abs=1e-8)


def test_one_head_that_looks_at_nothing_else_leaves_eps_alone():
    gap = estimator_gap(attention_of(n_heads=1, mass=1.0))
    assert (gap.head_sum, gap.visual_mass, gap.unequal_rows) == pytest.approx((0, 0, 0), abs=1e-7)
    assert gap.eps < 0
    assert gap.normalised > 0.1


@pytest.mark.parametrize("n_heads", [2, 5])
def test_the_sum_over_heads_adds_their_mean_once_more_for_each_other_head(n_heads):
    gap = estimator_gap(attention_of(n_heads))
    assert gap.head_sum == pytest.approx((n_heads - 1) * gap.normalised, rel=1e-9)


@pytest.mark.parametrize("mass", [0.9, 0.1])
def test_the_visual_mass_scales_the_sum(mass):
    gap = estimator_gap(attention_of(mass=mass))
    assert gap.visual_mass == pytest.approx((mass - 1) * (gap.normalised + gap.head_sum), rel=1e-6)
    assert gap.unequal_rows == pytest.approx(0, abs=1e-6)


def test_rows_that_look_alike_but_not_as_much_are_information_to_the_official_code_alone():
    row = attention_of(rows=1)
    rows = torch.cat([row, row / 4], dim=1)
    gap = estimator_gap(rows)
    masses = torch.tensor([0.3, 0.075]).double()
    between = 4 * (masses * torch.log2(masses / masses.mean())).sum().item() / 2
    assert gap.normalised == pytest.approx(0, abs=1e-7)
    assert gap.unequal_rows == pytest.approx(between, rel=1e-5)


def test_a_head_whose_row_sees_nothing():
    attention = attention_of()
    attention[0, 3] = 0.0
    gap = estimator_gap(attention)
    assert gap.normalised == pytest.approx(mutual_information(evidence_of(attention[None])).item(), abs=1e-6)
    assert gap.official == pytest.approx(official_bits(attention), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "vision", "bits"), [(60, 160, -0.42), (60, 480, -1.17), (20, 160, -0.15), (150, 160, -0.99)]
)
def test_the_eps_bias_grows_with_the_prompt_and_the_picture(rows, vision, bits):
    gap = estimator_gap(torch.full((32, rows, vision), 0.1 / vision))
    assert gap.eps == pytest.approx(bits, abs=0.01)
    assert -32 * rows * vision * 1e-6 / math.log(2) <= gap.eps
    assert gap.official == pytest.approx(gap.eps, abs=1e-9)


@pytest.mark.parametrize("times", [2, 10])
def test_a_longer_prompt_that_looks_alike_has_the_same_normalised_bits(times):
    attention = attention_of(n_heads=32, rows=8, vision=160)
    long = attention.repeat(1, times, 1)
    bits = [mutual_information(evidence_of(a[None])).item() for a in (attention, long)]
    assert bits[1] == pytest.approx(bits[0], abs=1e-6)
    assert official_bits(long) < official_bits(attention) - 0.05 * (times - 1)


def test_the_normalised_bits_do_not_depend_on_how_many_tokens_are_left():
    """Nor on what they leave of the softmax: tokens nobody looks at go, each token becomes two, all get less."""
    attention = attention_of(n_heads=32, rows=30, vision=160)
    attention[:, :, 100:] = 0.0
    left, halves = attention[:, :, :100], attention.repeat_interleave(4, dim=2) / 4
    bits = [mutual_information(evidence_of(a[None])).item() for a in (attention, left, halves, attention / 50)]
    assert bits[1:] == pytest.approx([bits[0]] * 3, abs=1e-6)
    assert official_bits(halves) < official_bits(attention) - 0.1
    assert official_bits(attention / 50) < 0.1 * official_bits(attention)


@pytest.mark.parametrize(("rows", "vision"), [(1, 5), (60, 576), (300, 16)])
def test_attention_without_information_has_no_normalised_bits_at_any_size(rows, vision):
    even = torch.full((1, 4, rows, vision), 0.2 / vision)
    assert mutual_information(evidence_of(even)).item() == pytest.approx(0, abs=2e-6)


def test_a_prompt_without_visual_tokens_has_no_bits():
    assert estimator_gap(torch.zeros(2, 3, 0)) == EstimatorGap(0.0, 0.0, 0.0, 0.0, 0.0)


def test_without_rows_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match=r"\(2, 0, 4\) has no heads or no text rows"):
        estimator_gap(torch.zeros(2, 0, 4))


def test_the_plot_shows_every_step_of_every_sample():
    gaps = {"one": estimator_gap(attention_of()), "other": EstimatorGap(1.0, 3.0, -2.0, 0.5, -0.1)}
    (axes,) = plot_gaps(gaps).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights[6:] == pytest.approx([1.0, 3.0, -2.0, 0.5, -0.1, 2.4])
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert middles == pytest.approx([*(j - 0.2 for j in range(6)), *(j + 0.2 for j in range(6))])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.4] * 12)
    assert axes.get_xticks().tolist() == [0, 1, 2, 3, 4, 5]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "other"]
