"""The driving world: scenes, what three cameras see of them, the expert, the words."""

import numpy as np
import pytest
from answered import answered

from autoprune_lab.metrics.trajectory import overlaps
from autoprune_lab.tasks.driving import DrivingTask, error_of, moment, situation_of
from autoprune_lab.testbed.driving.blind import blind_answer
from autoprune_lab.testbed.driving.expert import ACTIONS, STEP, Situation, drive, judge, situations
from autoprune_lab.testbed.driving.hull import convex_hull
from autoprune_lab.testbed.driving.layout import vocabulary
from autoprune_lab.testbed.driving.render import GRID, VIEWS, draw, project
from autoprune_lab.testbed.driving.scene import COMMANDS, EGO, KINDS, LANE, Scene, make_scene
from autoprune_lab.testbed.driving.wording import answer, parse


def scenes(kind: str, n: int) -> list[Scene]:
    return [make_scene(np.random.default_rng((99, KINDS.index(kind), i)), kind) for i in range(n)]


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_seed_makes_one_scene_and_three_pictures(kind):
    first, again = scenes(kind, 1)[0], scenes(kind, 1)[0]
    assert first == again
    for picture, same in zip(draw(first), draw(again), strict=True):
        assert picture.image.shape == (64, 64, 3)
        assert (picture.image == same.image).all()
    assert first != scenes(kind, 2)[1]


@every_kind
def test_the_expert_never_touches_anyone(kind):
    """Every 0.2 s, from every second speed, under any command."""
    for scene in scenes(kind, 15):
        for situation in situations(scene)[::2]:
            for i, pose in list(enumerate(drive(scene, situation).poses, start=1))[1::2]:
                assert not overlaps(np.array([*pose, *EGO]), scene.boxes(STEP / 5 * i)).any(), (situation, i)


@every_kind
def test_the_expert_stops_before_the_line_and_the_waypoints_can_be_said(kind):
    for scene in scenes(kind, 12):
        for situation in situations(scene)[1::2]:
            plan, rule = drive(scene, situation), judge(scene, situation.command)
            if rule.stop is not None:
                assert plan.poses[-1, 0] <= rule.stop + 0.3
            said = parse(answer(plan.action, plan.waypoints))
            assert said is not None
            assert said[0] == plan.action in ACTIONS
            assert abs(said[1] - plan.waypoints).max() <= 0.126


def test_the_expert_waits_for_whom_it_must_and_goes_where_it_is_told():
    crossing = next(s for s in scenes("crossing", 40) if any(a.v_left for a in s.agents))
    assert drive(crossing, Situation("straight", 0)).waypoints[-1, 0] < crossing.zebra
    clear = next(s for s in scenes("blocked", 40) if len(s.agents) == 1)
    assert drive(clear, Situation("straight", 6)).action == ("left" if clear.free_side > 0 else "right")
    assert abs(drive(clear, Situation("straight", 8)).waypoints[-1, 1]) == pytest.approx(LANE, abs=0.3)
    green = next(s for s in scenes("light", 40) if s.light == "green")
    ends = [drive(green, Situation(command, 5)).waypoints[-1, 1] for command in COMMANDS]
    assert ends[0] == 0
    assert ends[1] > 1 > -1 > ends[2]


def test_the_plan_hangs_on_the_pictures():
    """Of each kind some scenes ask for two quite different plans at the same command and speed."""
    for kind in KINDS:
        ends = [drive(s, Situation(c, 2)).waypoints[-1] for s in scenes(kind, 30)
                for c in {x.command for x in situations(s)} - set(COMMANDS[2:])]  # fmt: skip
        assert np.ptp(np.array(ends), axis=0).max() > 1.5, kind


def test_who_crosses_is_seen_from_the_side_and_not_from_the_front():
    for scene in scenes("crossing", 40):
        for i, agent in enumerate(scene.agents):
            if agent.v_left:
                seen = [bool((picture.owner == i).any()) for picture in draw(scene)]
                assert seen == [agent.left > 0, False, agent.left < 0]


def test_the_car_beside_is_seen_from_its_side():
    for scene in scenes("blocked", 40):
        if len(scene.agents) > 1 and scene.agents[1].kind == "car":
            areas = [int((picture.owner == 1).sum()) for picture in draw(scene)]
            assert np.argmax(areas) == (0 if scene.free_side > 0 else 2)
            assert max(areas) > 16 * 16  # of 128 x 128 fine pixels: several patches


def test_lights_can_be_told_apart():
    for scene in scenes("light", 30):
        front = draw(scene)[1]
        lit = front.image[:22].astype(int)
        redness = (lit[..., 0] - lit[..., 1]).max(), (lit[..., 1] - lit[..., 0]).max()
        assert (redness[0] > redness[1] and redness[0] > 40) == (scene.light == "red")


def test_nearer_things_are_larger_and_lower():
    near, far = (project("front", np.array([[x, -1.0, 0.0], [x, 1.0, 0.0], [x, 0.0, 1.5]])) for x in (8.0, 20.0))
    assert np.ptp(near[:, 0]) > 2 * np.ptp(far[:, 0])
    assert near[0, 1] > far[0, 1]
    assert project("front", np.array([[-5.0, 0.0, 1.0]])).size == 0


def test_left_is_left():
    point = np.array([[6.0, 6.0, 1.0]])
    assert 0 < project("front-left", point)[0, 0] < 64
    assert project("front", np.array([[10.0, 2.0, 1.0]]))[0, 0] < 32
    assert [view for view in VIEWS if len(project(view, np.array([[-4.0, 8.0, 1.0]])))] == ["front-left"]


def test_a_hull_leaves_out_what_lies_inside():
    corners = [(0.0, 0.0), (4.0, 0.0), (4.0, 3.0), (0.0, 3.0)]
    assert sorted(convex_hull([*corners, (2.0, 1.0), (2.0, 0.0)])) == sorted(corners)


def test_every_word_is_one_token():
    known = set(vocabulary())
    assert len(known) == len(vocabulary())
    for sample in DrivingTask("tune", 5).samples():
        assert {*sample.question.split(), *sample.answers[0].split()} <= known


@pytest.mark.parametrize(
    "text", ["", "keep", "keep 1.00 +0.00", "hover" + " 1.00 +0.00" * 6, "keep" + " 1.00 1.00" * 6]
)
def test_what_is_no_plan_is_not_read_as_one(text):
    assert parse(text) is None


def test_splits_are_disjoint_and_a_longer_split_begins_like_a_shorter_one():
    tune, report = DrivingTask("tune", 3).samples(), DrivingTask("report", 3).samples()
    pictures = {s.images[1].tobytes() for s in tune}
    assert not pictures & {s.images[1].tobytes() for s in report}
    longer = {s.id: (s.question, s.answers) for s in DrivingTask("tune", 5).samples()}
    assert all(longer[s.id] == (s.question, s.answers) for s in tune)
    assert {len(s.images) for s in tune} == {3}
    assert GRID * GRID * len(VIEWS) == 192


@pytest.mark.parametrize(("field", "value"), [("split", "test"), ("per_kind", 0), ("per_kind", -3)])
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        DrivingTask(**{field: value})


def test_a_plan_scores_by_its_distance():
    task = DrivingTask("tune", 1)
    sample = task.samples()[0]
    words = sample.answers[0].split()
    assert task.score(sample.answers[0], sample) == 1
    moved = [words[0], *(f"{float(w) + 0.5:+.2f}" if w[0] in "+-" else w for w in words[1:])]
    assert task.score(" ".join(moved), sample) == pytest.approx(np.exp(-0.5))
    assert task.score("keep", sample) == 0


def test_ignoring_the_pictures_scores_much_worse_than_the_expert():
    task = DrivingTask("report", 20)
    assert max(task.chance().values()) < 0.8
    assert np.mean(list(task.chance().values())) < 0.45
    rows = [answered(s, blind_answer(situation_of(s.id))) for s in task.samples()]
    found = task.summary(rows)
    assert found["l2_avg"] > 2
    assert found["action_accuracy"] < 0.6
    assert found["collision_rate"] > 0.1


def test_the_expert_s_summary_is_perfect_and_silence_stands_still():
    task = DrivingTask("tune", 3)
    perfect = task.summary([answered(s, s.answers[0]) for s in task.samples()])
    assert {perfect[name] for name in ("l2_avg", "collision_rate", "unreadable")} == {0}
    assert perfect["action_accuracy"] == 1
    silent = task.summary([answered(s, "") for s in task.samples()])
    assert silent["unreadable"] == 1
    standing = [error_of(s.id, ("stop", np.zeros((6, 2)))).l2[5] for s in task.samples()]
    assert silent["l2_3s"] == pytest.approx(np.mean(standing))


def test_a_plan_through_a_standing_car_counts_as_a_collision():
    task = DrivingTask("tune", 30)
    for sample in task.samples():
        scene, _ = moment(sample.id)
        if sample.kind == "lead" and scene.agents[0].v_ahead == 0 and scene.agents[0].ahead < 14:
            through = np.column_stack([np.linspace(4, 24, 6), scene.curvature * np.linspace(4, 24, 6) ** 2 / 2])
            assert error_of(sample.id, ("keep", through)).hits.any()
            break
    else:
        pytest.fail("no such scene")
