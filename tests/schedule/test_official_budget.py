"""AutoPrune's schedule against the numbers of its official code, and where that code misses its own budget."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autoprune_lab.schedule.curve import FULL, logistic
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.official_budget import OfficialBudget, bisect, executed, merged_tokens, searched
from autoprune_lab.schedule.policy import Signal
from policies.autoprune_official import AutoPruneOfficialPolicy

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())["cases"]


def geometry(n_layers, n_vision):
    return Geometry(n_layers, 8, 8, 1, 1, 8, n_vision=n_vision, n_text=60)


def official_shape(case):
    """The curve of a golden case, with one layer more for the cut at the last layer's output."""
    policy = AutoPruneOfficialPolicy(k0=case["k0"], gamma=case["gamma"], x0=case["x0"])
    return policy.shape(Signal(case["layers"] + 1, case["MI"]))


def name(case):
    return "-".join(f"{case[key]:g}" for key in ("MI", "x0", "k0", "target", "ori_token_num", "layers"))


@pytest.mark.parametrize("case", GOLDEN, ids=name)
def test_the_search_ends_where_the_official_one_does(case):
    raw, n_opening = official_shape(case)[2:], case["v_token_num"]
    scale = bisect(raw, n_opening, case["target"])
    assert scale == pytest.approx(case["scale"], rel=1e-12)
    np.testing.assert_allclose(scale * raw, case["keep_percent"], rtol=1e-12)
    plan = searched(scale * raw, n_opening)
    assert plan.kept.tolist() == [n_opening, *case["keep_cal"]]
    assert plan.merged.tolist() == [0, *case["clusters_cal"]]
    assert plan.tokens.tolist() == case["counts_cal"]


@pytest.mark.parametrize("case", GOLDEN, ids=name)
def test_the_forward_cuts_to_the_official_counts(case):
    shape, budget = official_shape(case), OfficialBudget(case["target"])
    counts = case["counts_cal"] if case["counts_forward_f32"] == "same" else case["counts_forward_f32"]
    assert budget.leaving(shape, case["ori_token_num"]).tokens.tolist() == counts
    plan = budget.plan(shape[None], [geometry(case["layers"], case["ori_token_num"])])
    assert plan.tokens.tolist() == [[case["ori_token_num"], *counts[:-1]]]
    assert plan.tokens.mean() == case["layer_input_avg"]
    assert plan.merged[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("mean_tokens", "x0", "k", "leaving"),
    [
        (64, 5.0, 1.0, 52.1),
        (64, 2.0, 1.0, 37.3),
        (64, 3.0, 2.0, 38.2),
        (64, 2.0, 0.4, 61.7),
        (300, 6.0, 1.0, 202.3),
        (576, 14.9, 0.4, 449.7),
        (1, 14.9, 0.4, 2.0),
    ],
)
def test_the_budget_is_missed_by_as_much_as_officially(mean_tokens, x0, k, leaving):
    shape = AutoPruneOfficialPolicy(k0=k, x0=x0).shape(Signal(33))
    assert OfficialBudget(mean_tokens).leaving(shape, 576).tokens.mean() == pytest.approx(leaving, abs=0.051)


def test_the_forward_cuts_to_less_than_the_search_promised():
    raw = AutoPruneOfficialPolicy(k0=5.0, x0=10.0).shape(Signal(33))[2:]
    keep = bisect(raw, 160, 64) * raw
    assert searched(keep, 160).tokens.mean() == 64
    assert round(executed(keep, 160).tokens.mean(), 2) == 63.72


def test_the_forward_rounds_like_torch():
    keep = np.sort(np.append(np.random.default_rng(0).uniform(0, 1.2, 3000), np.arange(320) / 319))[::-1]
    wanted = torch.stack([torch.ceil((torch.tensor(320) - 1) * float(part)) for part in keep]).long()
    assert executed(keep, 320).kept[1:].tolist() == wanted.clamp(max=320).tolist()
    assert executed(keep, 320).kept.tolist() != searched(keep, 320).kept.tolist()


def test_merged_tokens_by_the_letter():
    assert merged_tokens(np.arange(5000)).tolist() == [
        0 if d == 0 else min((int(0.3 * d) + 1) // 10 + 1, int(0.3 * d) + 1) for d in range(5000)
    ]


def test_a_raw_curve_that_seems_to_fit_is_not_searched():
    raw = np.full(7, 0.4)
    assert bisect(raw, 100, 40) == 1.0
    assert searched(raw, 100).tokens.sum() == 100 + 42 + 6 * 41  # and not 8 * 40
    assert bisect(raw, 100, 39) < 1.0


def test_the_first_cut_is_before_layer_1_and_keeps_whole_tokens():
    layer, tokens = OfficialBudget(39.9).opens(np.array([576, 60]))
    assert (layer, tokens.tolist()) == (1, [99, 60])  # int(2.5 * 39.9)
    assert OfficialBudget(0.5, opening_factor=2).opens(np.array([9])).tokens.tolist() == [1]  # the least there is


def test_a_batch_is_planned_like_its_samples():
    shapes = np.stack([AutoPruneOfficialPolicy().shape(Signal(17, bits)) for bits in (0.0, 1.0, 3.0)])
    prompts, budget = [geometry(16, n) for n in (576, 100, 1)], OfficialBudget(64, opening_factor=1.5)
    together = budget.plan(shapes, prompts)
    assert together.tokens[:, 0].tolist() == [576, 100, 1]
    assert together.tokens[:, 1].tolist() == [96, 96, 1]
    for i in range(3):
        alone = budget.plan(shapes[i : i + 1], prompts[i : i + 1])
        assert alone.kept.tolist() == together.kept[i : i + 1].tolist()
        assert alone.merged.tolist() == together.merged[i : i + 1].tolist()


@pytest.mark.parametrize("fields", [(0.3,), (float("nan"),), (float("inf"),), (64, 0.0)])
def test_a_budget_that_empties_layer_0_is_refused(fields):
    with pytest.raises(ValueError, match="mean_tokens"):
        OfficialBudget(*fields)


def test_a_shape_of_another_size_or_full_where_the_budget_cuts_is_refused():
    budget, shape = OfficialBudget(64), AutoPruneOfficialPolicy().shape(Signal(16))
    with pytest.raises(ValueError, match="one layer more"):
        budget.plan(shape[None], [geometry(16, 576)])
    with pytest.raises(ValueError, match="FULL after layer 1"):
        budget.plan(np.full((1, 17), FULL), [geometry(16, 576)])


def test_the_curve_leaves_a_layer_and_enters_the_next():
    shape = AutoPruneOfficialPolicy().shape(Signal(48, 1.5))
    k = 0.4 - 0.2 * 1.5
    assert shape[:2].tolist() == [FULL, FULL]
    np.testing.assert_allclose(shape[2:], 0.75 * logistic(48, k, 14.9 + k)[1:-1], rtol=1e-13)


def test_the_curve_is_not_stretched_and_its_steepest_tail_is_zero():
    steep = AutoPruneOfficialPolicy(k0=100.0)
    assert steep.shape(Signal(32)).tolist() == steep.shape(Signal(80))[:32].tolist()
    assert steep.shape(Signal(200))[-1] == 0.0


@pytest.mark.parametrize("fields", [{"k0": -0.1}, {"gamma": float("nan")}, {"x0": float("inf")}])
def test_a_curve_out_of_range_is_refused(fields):
    with pytest.raises(ValueError, match="k0 >= 0, all finite"):
        AutoPruneOfficialPolicy(**fields)
