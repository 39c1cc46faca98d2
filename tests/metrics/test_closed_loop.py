"""What a drive is worth: success, driving score, means."""

from dataclasses import replace

import pytest

from autoprune_lab.metrics.closed_loop import Drive, figures

WHOLE = Drive(1.0, 9.5, "", ran_red=False, left_road=False, short_ttc=False, comfort=1.0)


def test_a_drive_succeeds_that_arrives_without_any_infraction():
    assert WHOLE.succeeds
    for fault in ({"completion": 0.99}, {"hit": "car"}, {"ran_red": True}, {"left_road": True}):
        assert not replace(WHOLE, **fault).succeeds
    assert replace(WHOLE, short_ttc=True, comfort=0.0).succeeds


def test_the_driving_score_is_the_route_times_a_factor_for_each_infraction():
    assert WHOLE.score == 1
    assert replace(WHOLE, completion=0.5, hit="pedestrian").score == 0.25
    assert replace(WHOLE, hit="car", ran_red=True).score == pytest.approx(0.6 * 0.7)
    assert replace(WHOLE, hit="barrier").score == 0.65


def test_text_gives_the_drive_again_and_anything_else_gives_none():
    drive = replace(WHOLE, hit="car", unreadable=0.25)
    assert Drive.read(drive.told()) == drive
    for text in ("", "keep 1.00 +0.00", "[1, 2]", "{}", '{"completion": 1}', "3"):
        assert Drive.read(text) is None


def test_figures_are_means_over_drives():
    found = figures([WHOLE, replace(WHOLE, completion=0.5, hit="car", short_ttc=True, comfort=0.5, seconds=4.5)])
    assert found == pytest.approx(
        {"success_rate": 0.5, "driving_score": 0.65, "route_completion": 0.75, "collision_rate": 0.5,
         "red_lights": 0, "off_road": 0, "short_ttc": 0.5, "comfort": 0.75, "unreadable": 0, "seconds": 7}
    )  # fmt: skip
    with pytest.raises(ValueError, match="no drives"):
        figures([])
