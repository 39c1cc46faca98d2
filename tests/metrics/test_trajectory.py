"""Open-loop planning figures, by hand."""

import numpy as np
import pytest

from autoprune_lab.metrics.trajectory import ego_boxes, figures, nearness, overlaps, plan_error, read_trajectory

STRAIGHT = np.column_stack([np.arange(1.0, 7.0), np.zeros(6)])  # 2 m/s, a waypoint each half second
NOBODY = [np.zeros((0, 5))] * 6


def aside(offset: float) -> np.ndarray:
    return STRAIGHT + np.array([0, offset])


def car(x: float, y: float, heading: float = 0.0) -> np.ndarray:
    return np.array([[x, y, heading, 4.0, 2.0]])


def test_l2_at_a_time_and_up_to_a_time():
    """Off by 0.1, 0.2, ... 0.6 m: 0.2, 0.4, 0.6 at 1, 2, 3 s; 0.15, 0.25, 0.35 up to them."""
    plan = STRAIGHT + np.column_stack([np.zeros(6), np.arange(1, 7) / 10])
    found = figures([plan_error(plan, STRAIGHT, NOBODY)])
    assert [found[f"l2_{s}s"] for s in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.6])
    assert found["l2_avg"] == pytest.approx(0.4)
    assert [found[f"l2_to_{s}s"] for s in (1, 2, 3)] == pytest.approx([0.15, 0.25, 0.35])
    assert found["l2_to_avg"] == pytest.approx(0.25)


def test_figures_are_means_over_plans():
    errors = [plan_error(aside(d), STRAIGHT, NOBODY) for d in (0.0, 3.0)]
    assert figures(errors)["l2_3s"] == pytest.approx(1.5)


def test_collisions_add_up_over_time():
    """A car that stands on the fourth waypoint only is hit by 2 s, and stays hit; the other plan hits nobody."""
    agents = [np.zeros((0, 5)), np.zeros((0, 5)), np.zeros((0, 5)), car(4, 0), *NOBODY[:2]]
    found = figures([plan_error(STRAIGHT, STRAIGHT, agents), plan_error(STRAIGHT, STRAIGHT, NOBODY)])
    assert [found[f"collision_{s}s"] for s in (1, 2, 3)] == [0, 0.5, 0.5]
    assert found["collision_rate"] == 0.5


def test_times_beyond_the_plan_are_left_out():
    found = figures([plan_error(STRAIGHT[:4], STRAIGHT[:4])])
    assert "l2_2s" in found
    assert "l2_3s" not in found
    assert [figures([plan_error(STRAIGHT, aside(0.5))], step)["l2_avg"] for step in (0.5, 1.0)] == [0.5, 0.5]
    assert "l2_1s" not in figures([plan_error(STRAIGHT[:1], STRAIGHT[:1])])


def test_a_plan_that_ends_before_the_first_time_is_averaged_as_it_is():
    short = figures([plan_error(np.array([[1.0, 0.3]]), STRAIGHT[:1], [car(1, 0.3)])])
    assert short == pytest.approx({"l2_avg": 0.3, "l2_to_avg": 0.3, "collision_rate": 1.0})


def test_nearness_falls_with_the_mean_distance():
    assert nearness(STRAIGHT, STRAIGHT) == 1.0
    assert nearness(STRAIGHT + np.array([0.3, 0.4]), STRAIGHT) == pytest.approx(np.exp(-0.5))
    assert nearness(None, STRAIGHT) == 0.0


def test_without_plans_there_are_no_figures():
    with pytest.raises(ValueError, match="no plans"):
        figures([])


def test_the_ego_car_has_the_size_of_the_nuscenes_one():
    """4.084 x 1.85 m: another car's front 2 m ahead of its middle is hit up to 2.042 + 2 m away, not farther."""
    stands = np.array([[1.0, 0.0]])
    for x, hits in ((1 + 4.04, True), (1 + 4.05, False)):
        assert plan_error(stands, stands, [car(x, 0)]).hits.tolist() == [hits]
    for y, hits in ((0.925 + 0.99, True), (0.925 + 1.01, False)):
        assert plan_error(stands, stands, [car(1, y)]).hits.tolist() == [hits]


def test_boxes_overlap_when_they_share_ground():
    box = np.array([0.0, 0.0, 0.0, 4.0, 2.0])
    assert overlaps(box, car(3.9, 0)).all()
    for x in (4.0, -4.0):  # bumpers touch
        assert not overlaps(box, car(x, 0)).any()
        assert overlaps(box, car(0.99 * x, 0)).all()
    assert overlaps(box, car(3.1, 1.9)).all()
    assert not overlaps(box, car(0, 2.1)).any()


def test_a_turned_box_overlaps_where_its_corner_reaches():
    """At 45 degrees a 4 x 2 car reaches sqrt(2) * 1.5 = 2.12 m ahead of its middle along x."""
    box = np.array([0.0, 0.0, 0.0, 4.0, 2.0])
    assert overlaps(box, car(4.0, 0, np.pi / 4)).all()
    assert not overlaps(box, car(4.2, 0, np.pi / 4)).any()
    assert not overlaps(box, car(3.6, 2.5, np.pi / 4)).any()  # boxes round both overlap, the cars do not


def test_the_ego_car_heads_where_it_moves_and_keeps_its_heading_when_it_stops():
    boxes = ego_boxes(np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 2.05], [1.1, 2.05]]), (4.0, 2.0))
    assert boxes[:, 2] == pytest.approx([0, np.pi / 2, np.pi / 2, 0], abs=1e-6)
    assert boxes[:, 3:].tolist() == [[4.0, 2.0]] * 4


def test_plans_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="6 waypoints cannot be compared with 4"):
        plan_error(STRAIGHT, STRAIGHT[:4])
    with pytest.raises(ValueError, match="agents at 2 times for 6"):
        plan_error(STRAIGHT, STRAIGHT, NOBODY[:2])


@pytest.mark.parametrize(
    "text",
    [
        "[(1.0,0.5),(2,-1)]",
        "<traj>[[1.0, 0.5], [2.0, -1.0]]</traj>",
        "The car at (9, 9) is slow. Here is the planning trajectory [PT, (+1.00, +0.50), (+2.00, -1.00)].",
        "Planned Trajectory:\n[(1.00, 0.50, 0.02),\n (2.00, -1.00, 0.03)]",
    ],
)
def test_published_ways_to_write_a_trajectory(text):
    assert read_trajectory(text, 2) == pytest.approx(np.array([[1.0, 0.5], [2.0, -1.0]]))


@pytest.mark.parametrize("text", ["", "stop", "[(1,2)]", "[(1,2),(3,4),(5,6)]", "at (1,2) and then (3,4)"])
def test_other_texts_hold_no_trajectory_of_two_points(text):
    assert read_trajectory(text, 2) is None
