"""The expert in a closed loop: plans from wherever the car has come to, also from beside its lane."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from autoprune_lab.testbed.driving.expert import (
    STOP_MARGIN,
    SUBSTEPS,
    TURN_SPEED,
    Judgement,
    Path,
    Plan,
    Situation,
    action_of,
    corner,
    lane,
    limit_of,
    travelled,
    walker,
)
from autoprune_lab.testbed.driving.scene import EGO, LANE, SIZES, TOP_SPEED, Agent, Scene

CLEARANCE = 7.0  # bumper to a barrier that the car waits before: from there it can still change lanes
COMMITTED = 0.6  # metres towards the other lane from which a change is gone through with
BESIDE = (-12.0, 7.0)  # a car in the other lane is in the way from so far behind to so far ahead
PASSED = 1.5  # metres beyond a line from which on it is too late to stop for it
SETTLED = 1.0  # metres from the new lane's middle: the change is over
AHEAD = 0.05  # metres over which a heading is read
GRID = np.arange(-25.0, 60.0, 0.05)  # of distances along a turn, round its start


@dataclass(frozen=True)
class Moment:
    """Where the car is: `scene` begins at the point of its lane beside the car, which lies `left` metres to the left.

    `heading` is against the lane's direction, in radians; `speed` in m/s. In a turn the lane is the one that is left.
    """

    scene: Scene
    left: float
    heading: float
    speed: float
    command: str

    @property
    def situation(self) -> Situation:
        """What the driver is told beside the pictures."""
        return Situation(self.command, int(np.clip(round(self.speed), 0, TOP_SPEED)))


@dataclass(frozen=True, eq=False)
class Course:
    """The line to follow, `begin` metres along it is the car, `aside` metres left of it, `astray` radians off.

    The car is back on the line after `length` metres; `limit` is the speed limit.
    """

    path: Path
    begin: float
    aside: float
    astray: float
    length: float
    limit: float


def pilot(moment: Moment) -> Plan:
    """Three seconds of rule-abiding driving from there, waypoints and poses in the car's own frame.

    As `expert.drive`, with three differences: from beside its line the car comes back to it on a cubic; it waits
    further before a barrier, so that it can still pass; it passes as soon as the other lane is free.
    """
    rule = rule_of(moment)
    course = _course(moment, rule)
    distance, v = travelled(rule, course.limit, moment.speed)
    points = _points(course, distance)
    toward = _points(course, distance + AHEAD) - points
    cos, sin = np.cos(moment.heading), np.sin(moment.heading)
    x, y = points[:, 0], points[:, 1] - moment.left
    seen = np.column_stack([x * cos + y * sin, y * cos - x * sin])
    turned = np.arctan2(toward[:, 1], toward[:, 0]) - moment.heading
    poses = np.column_stack([seen, (turned + np.pi) % (2 * np.pi) - np.pi])
    waypoints = seen[SUBSTEPS - 1 :: SUBSTEPS]
    said = action_of(moment.situation, rule, v, float(poses[-1, 2]), float(waypoints[-1, 1]))
    return Plan(said, waypoints, poses)


def rule_of(moment: Moment) -> Judgement:
    """Which rule applies now. A stop that is passed by PASSED metres binds no more."""
    scene, command = moment.scene, moment.command
    front = EGO[0] / 2 + STOP_MARGIN
    if scene.kind == "lead":
        return Judgement(None, scene.agents[0])
    if scene.kind == "blocked":
        return _past_barrier(moment)
    stop = None
    if scene.junction is not None and (scene.light == "red" or (command != "straight" and walker(scene, command))):
        stop = scene.junction - 1 - front
    elif scene.zebra is not None and any(a.kind == "pedestrian" and a.v_left for a in scene.agents):
        stop = scene.zebra - front
    return Judgement(stop if stop is not None and stop > -PASSED else None)


def remaining_turn(moment: Moment, beyond: float) -> float:
    """Metres to drive until `beyond` metres behind the end of the turn."""
    path, start, radius = corner(moment.scene, moment.command)
    return start + radius * np.pi / 2 + beyond - _beside(path, start, moment.left)


def _past_barrier(moment: Moment) -> Judgement:
    """Change lanes before the barrier when the other one is free, else wait."""
    scene, side = moment.scene, moment.scene.free_side
    cars = [a for a in scene.agents if a.kind == "car"]
    towards = moment.left * side
    if towards < COMMITTED and any(BESIDE[0] < car.ahead < BESIDE[1] for car in cars):
        return Judgement(scene.agents[0].ahead - (SIZES["barrier"][0] + EGO[0]) / 2 - CLEARANCE)
    ahead: list[Agent] = sorted((car for car in cars if car.ahead > 0), key=lambda car: car.ahead)
    return Judgement(None, ahead[0] if ahead else None, side if abs(LANE - towards) > SETTLED else 0)


def _course(moment: Moment, rule: Judgement) -> Course:
    scene, back = moment.scene, 8 + 0.6 * moment.speed
    if moment.command != "straight" and scene.junction is not None:
        path, start, _ = corner(scene, moment.command)
        begin = _beside(path, start, moment.left)
        here, there = path(np.array([begin, begin + AHEAD]))
        along = np.arctan2(*(there - here)[::-1])
        aside = -here[0] * -np.sin(along) + (moment.left - here[1]) * np.cos(along)
        return Course(path, begin, float(aside), float(moment.heading - along), 5.0, TURN_SPEED)
    target = scene.free_side * LANE if scene.kind == "blocked" and rule.stop is None else 0.0
    if rule.change:
        back = max(scene.agents[0].ahead - (SIZES["barrier"][0] + EGO[0]) / 2 - 0.5, CLEARANCE)
    base, across = lane(scene.curvature), np.array([0.0, target])
    return Course(lambda s: base(s) + across, 0.0, moment.left - target, moment.heading, back, limit_of(scene))


def _points(course: Course, distance: Float[ndarray, "n"]) -> Float[ndarray, "n 2"]:
    """The line, and beside it a cubic that starts as the car stands and ends on the line."""
    on, on_ahead = course.path(course.begin + distance), course.path(course.begin + distance + AHEAD)
    share = np.clip(distance / course.length, 0, 1)
    slope = np.tan(np.clip(course.astray, -1.0, 1.0)) * course.length
    off = course.aside * (1 - share**2 * (3 - 2 * share)) + slope * share * (1 - share) ** 2
    normal = (on_ahead - on) @ np.array([[0.0, 1.0], [-1.0, 0.0]]) / AHEAD
    return np.asarray(on + off[:, None] * normal)


def _beside(path: Path, start: float, left: float) -> float:
    """How far along a turn the car is, by the nearest point."""
    along = start + GRID
    return float(along[np.hypot(*(path(along) - (0.0, left)).T).argmin()])
