"""Confidence against what is right, by numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from autoprune_lab.statistics.records import Record, Records
from autoprune_lab.statistics.reliability import aurc, brier, ece, reliability

SURE, RIGHT = np.array([0.95, 0.85, 0.82, 0.3]), np.array([1.0, 0.0, 1.0, 0.0])


def test_calibration_error_weighs_bins_by_their_samples():
    assert ece(SURE, RIGHT, bins=10) == pytest.approx((0.05 + abs(0.85 + 0.82 - 1) + 0.3) / 4)
    assert ece(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == 0.5  # 1 is in the last bin
    assert ece(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.0


def test_brier_is_a_mean_square():
    assert brier(SURE, RIGHT) == pytest.approx((0.05**2 + 0.85**2 + 0.18**2 + 0.3**2) / 4)


def test_the_risk_of_the_most_confident_is_averaged_over_coverage():
    assert aurc(SURE, RIGHT) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert aurc(SURE[::-1], RIGHT[::-1]) == aurc(SURE, RIGHT)
    assert aurc(np.full(4, 0.5), RIGHT) == pytest.approx(0.5)  # ties have no order
    assert aurc(np.array([0.9, 0.1]), np.array([1.0, 0.0])) < aurc(np.array([0.1, 0.9]), np.array([1.0, 0.0]))


def test_without_every_confidence_there_are_no_figures():
    row = Record("", "a", "", (), 1.0, None, 10, 4, 5.0, 50, 100, 0, 25, 50, 4.5, (5, 5), 0.8)
    assert reliability(Records((row, row), 1.0)) == pytest.approx({"ece": 0.2, "brier": 0.04, "aurc": 0.0})
    lacking = reliability(Records((row, replace(row, confidence=None)), 1.0))
    assert set(lacking) == {"ece", "brier", "aurc"}
    assert all(np.isnan(value) for value in lacking.values())
