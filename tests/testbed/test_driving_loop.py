"""The closed loop of the driving world: the expert from anywhere, the car, the others, what is counted."""

from dataclasses import replace

import numpy as np
import pytest

from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask, DrivingEpisode, drive_by_expert
from autoprune_lab.testbed.driving.expert import STEP, drive, situations
from autoprune_lab.testbed.driving.labels import label, looks
from autoprune_lab.testbed.driving.render import IMAGE_SIZE, draw
from autoprune_lab.testbed.driving.scene import KINDS, LANE, Agent, Scene, make_scene
from autoprune_lab.testbed.driving.wording import parse
from autoprune_lab.testbed.driving_loop.lessons import make_lesson, moments
from autoprune_lab.testbed.driving_loop.pilot import Moment, pilot, rule_of
from autoprune_lab.testbed.driving_loop.trip import GONE, Start, Trip, make_start

every_kind = pytest.mark.parametrize("kind", KINDS)
EMPTY = Scene("free", 0.0, "right", None, None, None, (), 1)
STRAIGHT_ON = np.column_stack([np.arange(1, 7) * 2.5, np.zeros(6)])  # 5 m/s


def moment(scene: Scene = EMPTY, left: float = 0.0, heading: float = 0.0, speed: float = 5.0, command="straight"):
    return Moment(scene, left, heading, speed, command)


def driven(at: Moment, waypoints=STRAIGHT_ON, steps: int = 1, change: float = 9.0) -> Trip:
    trip = Trip.begin(Start(at, change))
    for _ in range(steps):
        trip.follow(waypoints)
    return trip


@pytest.mark.parametrize("kind", ["free", "lead", "light", "crossing", "turn"])
def test_on_its_line_the_expert_plans_as_in_the_open_loop(kind):
    for seed in range(6):
        scene = make_scene(np.random.default_rng(seed), kind)
        for situation in situations(scene)[::4]:
            mine = pilot(moment(scene, speed=float(situation.speed), command=situation.command))
            theirs = drive(scene, situation)
            assert mine.waypoints == pytest.approx(theirs.waypoints, abs=0.06)
            assert mine.action == theirs.action


@every_kind
def test_the_expert_drives(kind):
    for i in range(2):
        assert drive_by_expert(f"report-{kind}-{i}").succeeds, i


@pytest.mark.parametrize(("left", "heading"), [(0.8, 0.0), (-0.5, 0.1), (0.0, -0.15)])
def test_a_car_that_has_strayed_comes_back(left, heading):
    trip = Trip.begin(Start(moment(left=left, heading=heading), 9.0))
    for _ in range(8):
        trip.follow(pilot(trip.moment).waypoints)
    assert abs(trip.moment.left) < 0.1
    assert abs(trip.moment.heading) < 0.05


def test_a_plan_is_followed_at_its_pace_and_in_its_direction():
    on = driven(moment())
    assert on.goal == pytest.approx(40 - 2.5, abs=0.05)
    assert on.moment.speed == pytest.approx(5, abs=0.05)
    arc = np.arange(1, 7) * 2.5 / 20  # radians on a circle of 20 m to the left
    bent = driven(moment(), np.column_stack([20 * np.sin(arc), 20 * (1 - np.cos(arc))]))
    assert bent.moment.heading == pytest.approx(2.5 / 20, abs=0.01)
    assert bent.moment.left > 0
    stood = driven(moment(speed=1.0), np.zeros((6, 2)), 3)
    assert stood.moment.speed == 0


def test_a_bent_lane_is_followed_in_its_own_frame():
    """On a lane of 100 m radius a car that drives along it stays beside the lane's middle."""
    trip = Trip.begin(Start(moment(replace(EMPTY, curvature=0.01)), 9.0))
    for _ in range(8):
        trip.follow(pilot(trip.moment).waypoints)
        assert abs(trip.moment.left) < 0.1
    assert trip.moment.scene.curvature == 0.01


def test_scenes_come_nearer_and_their_agents_move():
    walker = Agent("pedestrian", 12.0, 8.0, 0.0, -1.3)
    scene = replace(EMPTY, kind="crossing", zebra=10.5, agents=(walker, Agent("car", 20.0, LANE, 5.0)))
    after = driven(moment(scene)).moment.scene
    assert after.zebra == pytest.approx(8, abs=0.05)
    assert after.agents[0].left == pytest.approx(8 - 0.65)
    assert after.agents[1].ahead == pytest.approx(20, abs=0.05)  # both did 5 m/s


def test_who_has_crossed_is_gone_and_nobody_waits_for_him():
    walker = Agent("pedestrian", 12.0, -2.0, 0.0, -1.3)
    scene = replace(EMPTY, kind="crossing", lane="right", zebra=10.5, agents=(walker,))
    waiting = moment(scene, speed=0.0)
    assert rule_of(waiting).stop is not None
    after = driven(waiting, np.zeros((6, 2)))
    assert after.moment.scene.agents[0].ahead == GONE
    assert rule_of(after.moment).stop is None


def test_a_red_light_turns_green_and_a_standing_car_drives_off():
    light = replace(EMPTY, kind="light", junction=15.0, light="red")
    assert driven(moment(light, speed=0.0), np.zeros((6, 2)), 2, change=2.0).moment.scene.light == "red"
    assert driven(moment(light, speed=0.0), np.zeros((6, 2)), 4, change=1.0).moment.scene.light == "green"
    lead = replace(EMPTY, kind="lead", agents=(Agent("car", 20.0, 0.0, 0.0),))
    paces = [
        driven(moment(lead, speed=0.0), np.zeros((6, 2)), n, 1.0).moment.scene.agents[0].v_ahead for n in (1, 5, 9)
    ]
    assert paces[0] == 0
    assert 0 < paces[1] < paces[2] <= 5


def test_a_car_that_comes_up_behind_brakes():
    scene = replace(EMPTY, agents=(Agent("car", -9.0, 0.0, 5.0),))
    trip = driven(moment(scene, speed=0.0), np.zeros((6, 2)), 6)
    assert not trip.hit
    assert trip.moment.scene.agents[0].v_ahead < 5


def test_what_goes_wrong_is_counted():
    light = replace(EMPTY, kind="light", junction=5.0, light="red")
    assert driven(moment(light)).outcome().ran_red
    ahead = replace(EMPTY, agents=(Agent("pedestrian", 5.5, 0.0),))
    hit = driven(moment(ahead), steps=2)
    assert (hit.outcome().hit, hit.outcome().short_ttc, hit.is_over) == ("pedestrian", True, True)
    off = driven(moment(left=-1.6, heading=-0.3))
    assert off.outcome().left_road
    assert off.is_over
    hard = driven(moment(speed=10.0), np.zeros((6, 2)), 2).outcome()
    assert hard.comfort < 1
    slow = Trip.begin(Start(moment(speed=0.0), 9.0), most_seconds=STEP)
    slow.follow(np.zeros((6, 2)))
    assert slow.is_over
    assert not slow.outcome().succeeds


def test_a_barrier_is_passed_when_the_other_lane_is_free():
    barrier = Agent("barrier", 16.0, 0.0)
    for beside, waits in ((3.0, True), (9.0, False)):
        scene = replace(EMPTY, kind="blocked", agents=(barrier, Agent("car", beside, LANE, 5.0)))
        rule = rule_of(moment(scene))
        assert (rule.stop is not None, rule.change) == (waits, 0 if waits else 1)
    over = moment(replace(EMPTY, kind="blocked", agents=(replace(barrier, ahead=-3.0),)), left=LANE)
    assert pilot(over).waypoints[:, 1] == pytest.approx(np.zeros(6), abs=1e-6)


def test_pictures_are_drawn_from_where_the_car_stands():
    scene = replace(EMPTY, agents=(Agent("pedestrian", 12.0, 0.0),))

    def column(left, heading):
        owner = draw(scene, left, heading)[1].owner == 0
        return float(np.flatnonzero(owner.any(0)).mean())

    middle = IMAGE_SIZE  # of twice as many fine pixels
    assert column(0.0, 0.0) == pytest.approx(middle, abs=1)
    assert column(1.0, 0.0) > middle + 4
    assert column(0.0, 0.1) > middle + 4
    assert column(-1.0, -0.1) < middle - 8
    still = [picture.image for picture in draw(scene)]
    assert all((a == b.image).all() for a, b in zip(still, draw(scene, 0.0, 0.0), strict=True))


def test_labels_are_in_the_frame_of_the_car():
    scene = replace(EMPTY, kind="lead", agents=(Agent("car", 12.0, 0.0, 5.0),))
    labels = label(scene, draw(scene, 1.0, 0.1), 1.0, 0.1)
    place = labels.place[labels.owner == 0][0] * (10, 5)
    assert place == pytest.approx((12 * np.cos(0.1) - np.sin(0.1), -12 * np.sin(0.1) - np.cos(0.1)))
    assert looks(scene, "straight", labels, rule_of(moment(scene)))[0].any()


def test_lessons_are_moments_of_drives_that_strayed():
    rng = np.random.default_rng(2)
    met = [one for _ in range(3) for one in moments(rng)]
    assert max(abs(one.left) for one in met) > 0.05
    assert make_lesson(rng).tokens.shape == make_lesson(rng).tokens.shape == (5, 40)


def test_a_seed_makes_one_start_and_splits_differ():
    first, again = (make_start(np.random.default_rng(3), "turn") for _ in range(2))
    assert first == again
    tune, report = (DrivingClosedLoopTask(split, 2).samples() for split in ("tune", "report"))
    assert not {s.images[1].tobytes() for s in tune} & {s.images[1].tobytes() for s in report}
    assert [s.id for s in DrivingClosedLoopTask("tune", 1).samples()] == [f"tune-{kind}-0" for kind in KINDS]


def test_a_drive_tells_the_speed_of_the_moment_and_keeps_its_wording():
    episode = DrivingEpisode("report-free-0")
    first = episode.look()
    before = episode.trip.moment.speed
    episode.act("keep" + " 0.00 +0.00" * 6)
    second = episode.look()
    assert episode.trip.moment.speed < before or before == 0
    assert len(first.question.split()) == len(second.question.split())
    assert first.images[1].size == (IMAGE_SIZE, IMAGE_SIZE)
    episode.act("no plan")
    assert episode.unreadable == [False, True]
    assert parse(DrivingClosedLoopTask("report", 1).samples()[0].answers[0]) is not None


def test_the_time_of_a_drive_is_at_least_a_decision():
    with pytest.raises(ValueError, match=r"at least 0\.5"):
        DrivingClosedLoopTask(seconds=0.2)
