"""Figures of rides: what counts as a success, and means over several."""

from dataclasses import replace

import pytest

from autoprune_lab.metrics.highway import Ride, figures

WHOLE = Ride(1.0, 16, 400.0, crashed=False, short_ttc=False, reward=0.9, unreadable=0.0)


def test_a_ride_succeeds_that_arrives_without_a_collision():
    assert WHOLE.succeeds
    assert WHOLE.score == 1
    late, crashed = replace(WHOLE, completion=0.99), replace(WHOLE, completion=0.5, crashed=True)
    assert not late.succeeds
    assert not replace(WHOLE, crashed=True).succeeds
    assert (late.score, crashed.score) == (0.99, pytest.approx(0.5 * 0.6))


def test_text_gives_the_ride_again_and_anything_else_gives_none():
    assert Ride.read(WHOLE.told()) == WHOLE
    assert Ride.read("IDLE") is None


def test_figures_are_means_over_rides_and_the_speed_over_their_seconds():
    crashed = Ride(0.25, 4, 100.0, crashed=True, short_ttc=True, reward=0.5, unreadable=0.5)
    found = figures([WHOLE, crashed])
    assert found == pytest.approx(
        {
            "success_rate": 0.5,
            "driving_score": (1 + 0.25 * 0.6) / 2,
            "route_completion": 0.625,
            "collision_rate": 0.5,
            "short_ttc": 0.5,
            "reward": 0.7,
            "unreadable": 0.25,
            "speed": 25.0,
        }
    )
    with pytest.raises(ValueError, match="no rides"):
        figures([])
