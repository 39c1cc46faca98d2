"""Estimators that are fitted: what they learn of planted needs, and what becomes of their numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoprune_lab.evidence.calibration import (
    Calibrated,
    CalibrationError,
    SampleNeeds,
    least_surviving,
    quality,
    standard_of,
)
from autoprune_lab.evidence.kind_of_need import KindOfNeed
from autoprune_lab.evidence.needed_depth import NeededDepth
from autoprune_lab.plugins.plain_evidence import evidence_of, uneven_attention
from autoprune_lab.pruner import Pruner
from policies.staircase_table import StaircaseTablePolicy

NAN = float("nan")
TWO = ("visual_mass", "text_rows")


def planted(n=60, seed=0):
    """Figures (n, 2) and needs: depth 6 + 2 x - y, tokens by the sign of x alone."""
    figures = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).double()
    depth = (6 + 2 * figures[:, 0] - figures[:, 1]).numpy()
    return figures.float(), SampleNeeds(depth, np.where(figures[:, 0] > 0, 20.0, 5.0), n_layers=16)


@pytest.mark.parametrize(
    ("survives", "least"),
    [
        ("0001", 8), ("0111", 2), ("1111", 1), ("1011", 4),  # right once by luck: it counts from where it stays
        ("1110", NAN), ("0000", NAN),
    ],
)  # fmt: skip
def test_the_need_is_the_level_from_which_on_the_answer_survives(survives, least):
    matrix = np.array([[one == "1" for one in survives]])
    np.testing.assert_array_equal(least_surviving(matrix, np.array([[1.0, 2.0, 4.0, 8.0]])), [least])


def test_levels_may_differ_between_samples():
    survives = np.array([[False, True], [True, True]])
    assert least_surviving(survives, np.array([[1.0, 10.0], [2.0, 20.0]])).tolist() == [10.0, 2.0]


def test_quality_by_hand():
    told = quality(np.array([1.0, 2.0, 3.0, 4.4]), np.array([1.0, 2.0, 4.0, 4.0]))
    assert told.r2 == pytest.approx(1 - (1 + 0.16) / 6.75)
    assert told.spearman == pytest.approx(0.9486833)
    assert (told.auc, told.accuracy) == (1.0, 0.75)
    assert quality(np.array([2.0, 1.0]), np.array([1.0, 3.0])).auc == 0.0


def test_of_needs_that_do_not_differ_only_accuracy_can_be_told():
    told = quality(np.array([2.2, 3.0]), np.array([2.0, 2.0]))
    np.testing.assert_array_equal([told.r2, told.spearman, told.auc, told.accuracy], [NAN, NAN, NAN, 0.5])
    many = quality(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 4.0]))  # the median is the least need of all
    assert many.auc == 1.0


@pytest.mark.parametrize("needs", ["depth", "tokens"])
def test_a_ridge_finds_what_was_planted(needs):
    figures, wanted = planted()
    fitted = NeededDepth(TWO, needs=needs).calibrated(figures, wanted, layer=2)
    fresh, expected = planted(seed=1)
    told = quality(fitted.predict(fresh).numpy(), fitted.targets(expected))
    assert fitted.ready
    assert told.spearman > (0.999 if needs == "depth" else 0.8)
    assert told.auc > (0.999 if needs == "depth" else 0.95)
    assert fitted.most == (16.0 if needs == "depth" else 20.0)


def test_a_figure_that_says_nothing_weighs_little_and_one_that_never_changes_nothing():
    figures, wanted = planted()
    noise = torch.randn(60, 1, generator=torch.Generator().manual_seed(9))
    wide = torch.cat([figures, noise, torch.full((60, 1), 0.3)], dim=1)
    fitted = NeededDepth((*TWO, "mean_row_max", "visual_tokens")).calibrated(wide, wanted, layer=0)
    assert abs(fitted.weights[2]) < 0.05 * abs(fitted.weights[0])
    assert fitted.weights[3] == 0
    assert fitted.scales[3] == 1


def test_numbers_are_clipped_to_what_there_is():
    fitted = NeededDepth(TWO).calibrated(*planted(), layer=2)
    assert fitted.predict(torch.tensor([[100.0, 0.0], [-100.0, 0.0]])).tolist() == [16.0, 0.0]


def clustered(n=30, seed=0):
    """Three kinds by turns: shallow with few tokens, shallow with many, deep; figures tell them, with some noise."""
    kind = np.arange(n) % 3
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * 0.2
    places = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]])[torch.from_numpy(kind)]
    needs = SampleNeeds(np.array([3.0, 3.5, 10.0])[kind], np.array([5.0, 60.0, 8.0])[kind], n_layers=16)
    return places + noise, needs, kind


def test_kinds_of_need_come_in_order_of_depth():
    figures, needs, kind = clustered()
    fitted = KindOfNeed(TWO).calibrated(figures, needs, layer=1)
    assert fitted.predict(figures).tolist() == kind.tolist() == fitted.targets(needs).tolist()
    assert fitted.centres == ((3.0, 5.0), (3.5, 60.0), (10.0, 8.0))
    fresh, _, expected = clustered(seed=1)
    assert fitted.predict(fresh).tolist() == expected.tolist()


def test_there_are_no_more_kinds_than_needs():
    figures, needs, kind = clustered()
    two = kind != 1
    fitted = KindOfNeed(TWO, kinds=5).calibrated(figures[torch.from_numpy(two)], needs.part(two), layer=1)
    assert fitted.centres == ((3.0, 5.0), (10.0, 8.0))
    assert fitted.predict(figures).tolist()[:1] == [0.0]
    with pytest.raises(CalibrationError, match="no kinds of need to tell apart"):
        KindOfNeed(TWO).calibrated(figures[::3], needs.part(kind == 0), layer=1)


def test_needs_may_be_those_of_the_tasks_kinds():
    """Single answers are luck: in two of three samples the need is another than their kind's mean."""
    figures, needs, kind = clustered()
    noisy = needs.depth + np.tile([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0], 4)[:30]
    known = SampleNeeds(np.where(np.arange(30) == 4, np.nan, noisy), needs.tokens, 16, tuple("xyz"[i] for i in kind))
    averaged = known.averaged()
    assert averaged.depth[0] == noisy[0::3].mean()
    assert averaged.depth[1] == np.delete(noisy[1::3], 1).mean()
    assert np.isnan(averaged.depth[4])
    kept = averaged.known
    fitted = KindOfNeed(TWO, kinds=9, by_task_kind=True).calibrated(
        figures[torch.from_numpy(kept)], averaged.part(kept), layer=1
    )
    assert len(fitted.centres) == 3
    assert fitted.predict(figures[torch.from_numpy(kept)]).tolist() == kind[kept].tolist()


def test_one_kind_of_task_makes_no_classes():
    needs = SampleNeeds(np.arange(3.0), np.arange(3.0), 16, ("x",) * 3)
    with pytest.raises(CalibrationError, match="not two of them here: set"):
        needs.averaged()


def fitted(kind):
    figures, needs, _ = clustered()
    wide = torch.cat([figures, figures[:, :1] ** 2], dim=1)
    return kind(TWO, text=1).calibrated(wide, needs, layer=1)


@pytest.mark.parametrize("kind", [NeededDepth, KindOfNeed])
def test_numbers_stand_in_the_pruners_file(kind, tmp_path):
    estimator = fitted(kind)
    pruner = Pruner(StaircaseTablePolicy(), complexity=estimator, probe_layer=1)
    pruner.save(tmp_path / "p.yaml")
    loaded = Pruner.load(tmp_path / "p.yaml")
    assert loaded == pruner
    evidence = evidence_of(uneven_attention(3, 4, 5, 30), (30, 21, 9, 0), (5, 3, 2, 0))
    torch.testing.assert_close(loaded.complexity(evidence), estimator(evidence), atol=0, rtol=0)
    with pytest.raises(ValueError, match="calibrated at layer 1, probe_layer is 2: set probe_layer=1"):
        replace(pruner, probe_layer=2)


@pytest.mark.parametrize("kind", [NeededDepth, KindOfNeed])
def test_without_numbers_it_says_who_makes_them(kind):
    assert isinstance(kind(), Calibrated)
    assert not kind().ready
    Pruner(StaircaseTablePolicy(), complexity=kind()).save("/dev/null")
    with pytest.raises(CalibrationError, match="is not calibrated: autoprune calibrate"):
        kind()(evidence_of(uneven_attention(0, 1)))


def test_at_another_layer_it_refuses():
    estimator = fitted(NeededDepth)
    evidence = evidence_of(uneven_attention(0, 1))
    with pytest.raises(CalibrationError, match=r"calibrated at layer 3, not 1: set pruner\.probe_layer=3"):
        replace(estimator, layer=3)(evidence)


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (NeededDepth, {"figures": ("visual_mas",)}, "unknown figure 'visual_mas'; there are: mutual"),
        (NeededDepth, {"figures": ("text_rows", "text_rows")}, "one stands there twice"),
        (KindOfNeed, {"figures": ()}, "name a figure, or give text"),
        (KindOfNeed, {"text": -1}, "give text a number above 0"),
        (KindOfNeed, {"kinds": 1}, "kinds=1 must be at least 2"),
        (NeededDepth, {"figures": TWO, "weights": (1.0, 2.0)}, "leave all unset, or take all from one calibration"),
        (NeededDepth, {"layer": 2}, "leave all unset"),
    ],
)
def test_what_does_not_fit_is_refused(kind, fields, reason):
    with pytest.raises(ValueError, match=reason):
        kind(**fields)


def test_figures_that_cannot_be_fitted_are_counted():
    with pytest.raises(CalibrationError, match="1 samples to fit, at least 2"):
        standard_of(np.zeros((1, 3)))
    with pytest.raises(CalibrationError, match="1 of 4 figures are not finite"):
        standard_of(np.array([[0.0, np.inf], [1.0, 2.0]]))
