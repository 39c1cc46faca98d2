"""The highway: its expert, its labels, and highway-env behind it."""

from dataclasses import replace

import numpy as np
import pytest

from autoprune_lab.testbed.highway.expert import ACTIONS, NOWHERE, decide, worth
from autoprune_lab.testbed.highway.labels import CLASSES, GRID, GROUND, N_PATCHES, gaps, label, looks
from autoprune_lab.testbed.highway.layout import vocabulary
from autoprune_lab.testbed.highway.scene import AHEAD, BEHIND, IMAGE_SIZE, LANE, LANES, SCALE, VIEWS, Car, Moment
from autoprune_lab.testbed.highway.simulator import DENSITIES, Highway, draw, missing
from autoprune_lab.testbed.highway.wording import TEMPLATES, parse, question

needs_highway = pytest.mark.skipif(missing() is not None, reason=str(missing()))
FREE = Moment(1, 0.0, 0.0, 25.0, ())


def with_cars(*cars: Car, speed: float = 25.0, lane: int = 1) -> Moment:
    return replace(FREE, cars=cars, speed=speed, lane=lane)


def test_the_expert_goes_as_fast_as_is_safe():
    assert decide(FREE) == "FASTER"
    assert decide(replace(FREE, speed=30.0)) == "IDLE"
    wall = [Car(18.0, change * LANE) for change in (-1, 0, 1)]
    assert decide(with_cars(*wall)) == "SLOWER"


def test_the_expert_changes_to_where_there_is_room():
    ahead = Car(30.0, 0.0)
    assert decide(with_cars(ahead, Car(2.0, LANE))) == "LANE_RIGHT"
    assert decide(with_cars(ahead, Car(2.0, -LANE))) == "LANE_LEFT"
    for lane, gone in ((0, "LANE_LEFT"), (LANES - 1, "LANE_RIGHT")):
        assert worth(with_cars(ahead, lane=lane))[gone] == NOWHERE


def test_the_expert_goes_by_what_the_pictures_show():
    unseen = (Car(AHEAD + 1, 0.0), Car(-BEHIND - 1, LANE), Car(5.0, 3 * LANE))
    assert worth(with_cars(*unseen)) == worth(FREE)


def test_a_car_is_in_the_lane_that_is_nearest_also_while_the_ego_car_changes():
    assert with_cars(Car(20.0, 1.9)).in_lane(0)
    moving = replace(with_cars(Car(20.0, 1.9)), left=0.5)
    assert (moving.in_lane(0), moving.in_lane(1)) == ((), moving.cars)


def test_labels_name_what_is_there():
    moment = with_cars(Car(20.0, 0.0), Car(10.0, LANE), Car(-10.0, -LANE))
    labels = label(moment)
    for i, car in enumerate(moment.seen()):
        mine = labels.owner == i
        assert set(labels.classes[mine]) == {CLASSES.index("car")}
        assert labels.place[mine][0] == pytest.approx((car.ahead / 10, car.left / 5))
    ego = labels.classes == CLASSES.index("ego")
    assert ego[: N_PATCHES // len(VIEWS)].any()  # it is in the first view, and wholly
    assert not ego[N_PATCHES // len(VIEWS) :].any()
    first, second = looks(moment, labels)
    assert set(labels.owner[first]) == {0}
    assert set(labels.owner[second]) == {1, 2}
    assert gaps(moment) * 10 == pytest.approx([20, BEHIND, 10, BEHIND, AHEAD, 10])
    assert gaps(replace(moment, lane=0))[2:4].tolist() == [0, 0]


@pytest.mark.parametrize("lane", range(LANES))
def test_the_road_has_its_edges_where_lanes_end(lane):
    labels = label(replace(FREE, lane=lane))
    rows = labels.ground[:, GROUND.index("edge")].reshape(len(VIEWS), GRID, GRID)[0].all(1)
    below, above = (LANES - 0.5 - lane) * LANE, (lane + 0.5) * LANE  # metres from the ego car's middle
    shown = [at for at in (IMAGE_SIZE / 2 - above * SCALE, IMAGE_SIZE / 2 + below * SCALE) if 0 < at < IMAGE_SIZE]
    assert len(shown) <= rows.sum() <= 2 * len(shown)
    assert all(rows[min(int(at) // (IMAGE_SIZE // GRID), GRID - 1)] for at in shown)


def test_questions_tell_the_speed_and_answers_are_actions():
    rng = np.random.default_rng(0)
    asked = {question(24.6, rng) for _ in range(30)}
    assert asked == {template.format(speed=25) for template in TEMPLATES}
    assert {word for text in asked for word in text.split()} | {*ACTIONS} <= {*vocabulary()}
    assert [parse(action) for action in ACTIONS] == [*ACTIONS]
    assert parse("LANE_LEFT LANE_LEFT") is None


@needs_highway
def test_the_same_seed_gives_the_same_ride():
    def ridden(seed: int) -> list[Moment]:
        ride, met = Highway(seed, DENSITIES["busy"]), []
        for action in ("FASTER", "LANE_LEFT", "IDLE"):
            ride.act(action)
            met.append(ride.moment)
        return met

    assert ridden(3) == ridden(3)
    assert ridden(3) != ridden(4)


@needs_highway
def test_actions_of_highway_env_do_what_the_expert_takes_them_for():
    ride = Highway(5, DENSITIES["sparse"])
    before = ride.moment
    assert before.speed == 25
    assert 0 < ride.act("FASTER") <= 1
    assert ride.moment.speed == pytest.approx(29.3, abs=0.3)
    assert 25 < ride.metres < 30
    lane = ride.moment.lane
    ride.act("LANE_LEFT" if lane else "LANE_RIGHT")
    assert ride.moment.lane == (lane - 1 if lane else 1)


@needs_highway
def test_pictures_show_cars_where_they_are():
    empty = draw(FREE)
    assert empty.shape == (IMAGE_SIZE, len(VIEWS) * IMAGE_SIZE, 3)
    for car in (Car(20.0, 0.0), Car(10.0, LANE), Car(-10.0, -LANE)):
        changed = (draw(replace(FREE, cars=(car,))) != empty).any(-1)
        rows, columns = np.nonzero(changed)
        assert columns.mean() / SCALE - BEHIND == pytest.approx(car.ahead, abs=0.7)
        assert (IMAGE_SIZE / 2 - rows.mean()) / SCALE == pytest.approx(car.left, abs=0.7)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("autoprune_lab.testbed.highway.simulator.find_spec", lambda name: None)
    assert "pip install 'autoprune-lab[highway]'" in str(missing())
