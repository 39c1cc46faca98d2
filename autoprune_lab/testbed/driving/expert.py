"""The expert driver: rules, the intelligent driver model along a path, six waypoints over three seconds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from autoprune_lab.testbed.driving.scene import ARM, COMMANDS, EGO, LANE, SIZES, TOP_SPEED, Agent, Scene

ACTIONS = ("keep", "accelerate", "brake", "stop", "left", "right")
HORIZON, STEP = 3.0, 0.5  # seconds
SUBSTEPS = 5  # of the simulation in one step
ACCELERATION, BRAKING, HEADWAY, STANDOFF, HARDEST = 2.0, 3.0, 1.2, 2.0, 7.0
TURN_SPEED, BEND_SPEED = 5.0, 7.0
TURN_RADIUS = {"left": 7.0, "right": 5.0}
STOP_MARGIN = 1.0  # front bumper to a stop line

Path = Callable[[Float[ndarray, "n"]], Float[ndarray, "n 2"]]  # distance driven -> x, y


@dataclass(frozen=True)
class Situation:
    """What the driver is told beside the pictures: a command, and the speed in whole m/s."""

    command: str
    speed: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Meta-action, the waypoints at 0.5 s steps and the 30 poses (x, y, heading) of the simulation."""

    action: str
    waypoints: Float[ndarray, "6 2"]
    poses: Float[ndarray, "30 3"]


@dataclass(frozen=True)
class Judgement:
    """What the rules say of a scene under a command.

    `stop`: the ego's middle may come so far, None without a bound. `leader`: car to follow. `change`: 1 or -1 for a
    lane change to the left or right.
    """

    stop: float | None
    leader: Agent | None = None
    change: int = 0


def judge(scene: Scene, command: str) -> Judgement:
    """Which rule applies; one at most in any scene of this world."""
    front = EGO[0] / 2 + STOP_MARGIN
    if scene.kind == "lead":
        return Judgement(None, scene.agents[0])
    if scene.light == "red" and scene.junction is not None:
        return Judgement(scene.junction - 1 - front)
    if scene.zebra is not None and any(a.kind == "pedestrian" and a.v_left for a in scene.agents):
        return Judgement(scene.zebra - front)
    if scene.kind == "blocked":
        beside = any(a.kind == "car" for a in scene.agents)
        stop = scene.agents[0].ahead - SIZES["barrier"][0] / 2 - EGO[0] / 2 - STANDOFF
        return Judgement(stop) if beside else Judgement(None, change=scene.free_side)
    if scene.junction is not None and command != "straight" and walker(scene, command) is not None:
        return Judgement(scene.junction - 1 - front)
    return Judgement(None)


def walker(scene: Scene, command: str) -> Agent | None:
    """Who crosses the arm that the command leads into."""
    hand = 1 if command == "left" else -1
    return next((a for a in scene.agents if a.kind == "pedestrian" and a.v_ahead and a.left * hand > 0), None)


def situations(scene: Scene) -> list[Situation]:
    """Every command the scene allows at every speed from which the expert can still obey the rules."""
    commands: tuple[str, ...] = COMMANDS if scene.junction is not None else COMMANDS[:1]
    if scene.kind == "turn":
        commands = COMMANDS[1:]
    return [Situation(command, speed) for command in commands for speed in range(_fastest(scene, command) + 1)]


def _fastest(scene: Scene, command: str) -> int:
    rule = judge(scene, command)
    if command != "straight":
        top = 6.0
    elif rule.change:
        top = (scene.agents[0].ahead - 5) * 0.9
    else:
        top = float(TOP_SPEED)
    if rule.stop is not None:
        top = min(top, np.sqrt(7 * max(rule.stop, 0.0)))
    if rule.leader is not None:
        top = min(top, rule.leader.v_ahead + np.sqrt(7 * (rule.leader.ahead - EGO[0] - 1)))
    return int(min(top, TOP_SPEED))


def drive(scene: Scene, situation: Situation) -> Plan:
    """Simulate three seconds of rule-abiding driving.

    Source: the intelligent driver model, arXiv cond-mat/0002177, eq. 3.
    Differs: braking is bounded at 7 m/s^2; a stop line is a standing car, 2 m behind it.
    """
    rule = judge(scene, situation.command)
    path, limit = _path(scene, situation.command, rule)
    distance, v = travelled(rule, limit, float(situation.speed))
    points = path(distance)
    ahead = path(distance + 0.05) - points
    poses = np.column_stack([points, np.arctan2(ahead[:, 1], ahead[:, 0])])
    waypoints = points[SUBSTEPS - 1 :: SUBSTEPS]
    return Plan(action_of(situation, rule, v, float(poses[-1, 2]), float(waypoints[-1, 1])), waypoints, poses)


def travelled(rule: Judgement, limit: float, v: float) -> tuple[Float[ndarray, "30"], float]:
    """Metres driven at each instant of the simulation, from `v` m/s on, and the speed at its end."""
    n = round(HORIZON / STEP) * SUBSTEPS
    dt = STEP / SUBSTEPS
    s, driven = 0.0, []
    for i in range(n):
        v_next = max(0.0, v + dt * _acceleration(v, limit, *_ahead(rule, s, i * dt)))
        s, v = s + dt * (v + v_next) / 2, v_next
        driven.append(s)
    return np.array(driven), v


def _ahead(rule: Judgement, s: float, time: float) -> tuple[float, float]:
    """Gap to what is ahead, and its speed; infinite without."""
    if rule.leader is not None:
        return rule.leader.ahead + rule.leader.v_ahead * time - s - EGO[0], rule.leader.v_ahead
    if rule.stop is not None:
        return rule.stop + STANDOFF - s, 0.0
    return np.inf, 0.0


def _acceleration(v: float, limit: float, gap: float, other: float) -> float:
    wanted = STANDOFF + max(0.0, v * HEADWAY + v * (v - other) / (2 * np.sqrt(ACCELERATION * BRAKING)))
    value = ACCELERATION * (1 - (v / limit) ** 4 - (wanted / max(gap, 0.1)) ** 2)
    return float(max(value, -HARDEST))


def _path(scene: Scene, command: str, rule: Judgement) -> tuple[Path, float]:
    """The line to follow, and the speed limit on it."""
    if rule.change:
        length = scene.agents[0].ahead - SIZES["barrier"][0] / 2 - EGO[0] / 2 - 0.5
        return _lane_change(rule.change * LANE, length), float(TOP_SPEED)
    if command != "straight" and scene.junction is not None:
        return corner(scene, command)[0], TURN_SPEED
    return lane(scene.curvature), limit_of(scene)


def limit_of(scene: Scene) -> float:
    """The speed limit of a lane."""
    return BEND_SPEED if abs(scene.curvature) > 0.008 else float(TOP_SPEED)


def corner(scene: Scene, command: str) -> tuple[Path, float, float]:
    """The line of a turn into the scene's junction, how far along it the turn begins, and its radius."""
    assert scene.junction is not None
    radius = TURN_RADIUS[command]
    hand = 1 if command == "left" else -1
    start = scene.junction + (ARM * 0.75 if command == "left" else ARM * 0.25) - radius
    return _corner(start, radius, hand), start, radius


def lane(curvature: float) -> Path:
    """The middle of the ego lane."""
    return lambda s: np.column_stack([s, curvature * s * s / 2])


def _lane_change(offset: float, length: float) -> Path:
    def points(s: ndarray) -> ndarray:
        share = np.clip(s / length, 0, 1)
        return np.column_stack([s, offset * share**2 * (3 - 2 * share)])

    return points


def _corner(start: float, radius: float, hand: int) -> Path:
    def points(s: ndarray) -> ndarray:
        angle = np.clip((s - start) / radius, 0, np.pi / 2)
        beyond = np.maximum(s - start - radius * np.pi / 2, 0)
        x = np.minimum(s, start) + radius * np.sin(angle)
        return np.column_stack([x, hand * (radius * (1 - np.cos(angle)) + beyond)])

    return points


def action_of(situation: Situation, rule: Judgement, v: float, heading: float, y: float) -> str:
    """The meta-action of a plan that ends at speed `v` with this heading, its last waypoint `y` metres to the left."""
    turning = situation.command != "straight" and abs(heading) > 0.15
    if rule.change or turning:
        return "left" if y > 0 else "right"
    if v < 0.5:
        return "stop"
    gain = v - situation.speed
    return "accelerate" if gain > 1 else "brake" if gain < -1 else "keep"
