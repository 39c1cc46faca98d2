"""A drive from start to end: the car follows plans, the others move, and what happens is counted."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from autoprune_lab.metrics.closed_loop import Drive
from autoprune_lab.metrics.trajectory import overlaps
from autoprune_lab.testbed.driving.expert import STEP, SUBSTEPS, situations
from autoprune_lab.testbed.driving.render import ground
from autoprune_lab.testbed.driving.scene import ARM, EGO, LANE, SIZES, TRAFFIC_SPEED, Agent, Scene, make_scene
from autoprune_lab.testbed.driving_loop.pilot import CLEARANCE, Moment, remaining_turn

DT = STEP / SUBSTEPS
MOST_SECONDS = 25.0
HARDEST_BRAKE, HARDEST_GAS, TIGHTEST = 7.0, 3.0, 4.0  # m/s^2, m/s^2, metres of radius
REACH, REACH_SECONDS = 3.0, 0.6  # of the pure pursuit: metres at least, and seconds of driving
PACE = 2  # waypoints, one second: the speed is set so as to be there in time
CLOSE = (0.3, 0.6, 0.95)  # seconds ahead at which a collision is looked for
GONE = -200.0  # metres: who has left stays in the scene, for paints go by place, but out of sight
DRIVEN_AFTER = {"free": 40.0, "lead": 30.0, "light": ARM + 5, "crossing": 9.0, "blocked": 12.0, "turn": 6.0}


@dataclass(frozen=True)
class Start:
    """How a drive begins; `change` seconds later a red light turns green and a standing car ahead drives off."""

    moment: Moment
    change: float


@dataclass
class Trip:
    """A drive under way; `log` has the speed, the turn rate and whether a collision was near, at every decision."""

    moment: Moment
    change: float
    most_seconds: float = MOST_SECONDS
    seconds: float = 0.0
    goal: float = 0.0  # metres ahead; of a turn: behind its end
    whole: float = 0.0  # metres from start to goal
    least: float = 0.0  # metres to the goal, so far
    hit: str = ""
    ran_red: bool = False
    left_road: bool = False
    log: list[tuple[float, float, bool]] = field(default_factory=list)

    @classmethod
    def begin(cls, start: Start, most_seconds: float = MOST_SECONDS) -> "Trip":
        """At its first decision."""
        trip = cls(start.moment, start.change, most_seconds, goal=_goal(start.moment))
        trip.whole = trip.least = trip._remaining()
        return trip

    @property
    def is_over(self) -> bool:
        """Arrived, in a collision, off the road, or out of time."""
        return bool(self.hit) or self.left_road or self.least <= 0 or self.seconds > self.most_seconds - DT / 2

    def follow(self, waypoints: Float[ndarray, "6 2"]) -> None:
        """Half a second of driving along a plan, which is in the frame of the car as it stands now."""
        before = self.moment
        self.log.append((before.speed, 0.0, _is_close(before)))
        line = np.vstack([np.zeros(2), waypoints])
        pose, turned = np.zeros(3), 0.0  # in the plan's frame
        for i in range(SUBSTEPS):
            speed, bend = _controls(line, pose, self.moment.speed, PACE * STEP - i * DT)
            mean = (self.moment.speed + speed) / 2
            turn = mean * bend * DT
            along = pose[2] + turn / 2
            pose = pose + np.array([mean * DT * np.cos(along), mean * DT * np.sin(along), turn])
            turned += turn
            self._move(mean * DT, turn, speed)
            if self.is_over:
                break
        self.log[-1] = (before.speed, turned / STEP, self.log[-1][2])

    def outcome(self) -> Drive:
        """What came of it."""
        speeds, rates, close = (np.array(column) for column in zip(*self.log, strict=True))
        return Drive(
            completion=float(np.clip(1 - self.least / self.whole, 0, 1)),
            seconds=round(self.seconds, 1),
            hit=self.hit,
            ran_red=self.ran_red,
            left_road=self.left_road,
            short_ttc=bool(close.any()),
            comfort=_comfort(np.append(speeds, self.moment.speed), rates),
        )

    def _move(self, metres: float, turn: float, speed: float) -> None:
        """The car drives so far on, and everyone else for DT."""
        was, scene = self.moment, self.moment.scene
        heading = was.heading + turn
        along = was.heading + turn / 2
        x, y = metres * float(np.cos(along)), was.left + metres * float(np.sin(along))
        self.seconds += DT
        if scene.light == "red":
            line = (scene.junction or 0.0) - 1 - EGO[0] / 2
            self.ran_red |= bool(0 < line <= x)
        shift, left, lane = _beside(scene.curvature, x, y)
        moved = replace(was, scene=self._later(scene, was, shift), left=left, heading=heading - lane, speed=speed)
        self.moment, self.goal = moved, self.goal - (shift if was.command == "straight" else 0)
        self.least = min(self.least, self._remaining())
        boxes = moved.scene.boxes(0.0)
        touched = np.flatnonzero(overlaps(np.array([0.0, left, moved.heading, *EGO]), boxes))
        self.hit = moved.scene.agents[touched[0]].kind if len(touched) else ""
        on = ground(moved.scene, np.zeros(1), np.array([left]))
        self.left_road = not bool(on["road"][0])

    def _remaining(self) -> float:
        moment = self.moment
        return self.goal if moment.command == "straight" else remaining_turn(moment, self.goal)

    def _later(self, scene: Scene, ego: Moment, shift: float) -> Scene:
        """The scene DT later, from `shift` metres further on."""
        changes = self.seconds >= self.change
        agents = tuple(_moved(agent, i, scene, ego, changes, shift) for i, agent in enumerate(scene.agents))
        light = "green" if scene.light == "red" and changes else scene.light
        junction, zebra = (None if at is None else at - shift for at in (scene.junction, scene.zebra))
        return replace(scene, light=light, junction=junction, zebra=zebra, agents=agents)


def make_start(rng: np.random.Generator, kind: str) -> Start:
    """Draw the start of one drive; the same generator state gives the same start."""
    scene = make_scene(rng, kind)
    options = situations(scene)
    if kind == "blocked":  # the expert of a closed loop waits further off
        room = scene.agents[0].ahead - (SIZES["barrier"][0] + EGO[0]) / 2 - CLEARANCE
        options = [s for s in options if s.speed <= np.sqrt(7 * room)]
    situation = options[int(rng.integers(len(options)))]
    return Start(Moment(scene, 0.0, 0.0, float(situation.speed), situation.command), float(rng.uniform(2, 5)))


def _goal(moment: Moment) -> float:
    scene, after = moment.scene, DRIVEN_AFTER[moment.scene.kind]
    if moment.command != "straight":
        return DRIVEN_AFTER["turn"]
    if scene.kind == "blocked":
        return scene.agents[0].ahead + after
    return after + (scene.junction or (scene.zebra if scene.kind == "crossing" else 0.0) or 0.0)


def _controls(line: ndarray, pose: ndarray, speed: float, time: float) -> tuple[float, float]:
    """Speed after DT, and the curvature to steer: pure pursuit of the plan, its waypoint PACE reached in `time`.

    Source: R. C. Coulter, CMU-RI-TR-92-01, eq. 2.2 (pure pursuit).
    """
    moves = np.hypot(*np.diff(line, axis=0).T)
    done = float(np.hypot(pose[0], pose[1]))
    wanted = 2 * (float(moves[:PACE].sum()) - done - speed * time) / time**2
    gas = float(np.clip(wanted, -HARDEST_BRAKE, HARDEST_GAS))
    after = max(0.0, speed + gas * DT)
    after = 0.0 if after < 0.05 and gas < 0 else after
    reach = max(REACH, REACH_SECONDS * speed)
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    seen = (line - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])
    x, y = _target(seen, reach)
    distance = x * x + y * y
    bend = 2 * y / distance if distance > 0.25 else 0.0
    return after, float(np.clip(bend, -1 / TIGHTEST, 1 / TIGHTEST))


def _target(seen: ndarray, reach: float) -> tuple[float, float]:
    """The first point of the plan `reach` metres away; beyond its end on its last stretch."""
    away = np.hypot(*seen.T)
    further = np.flatnonzero(away >= reach)
    if not len(further):
        return float(seen[-1, 0]), float(seen[-1, 1])
    i = int(further[0])
    if i == 0:
        return float(seen[0, 0]), float(seen[0, 1])
    share = (reach - away[i - 1]) / (away[i] - away[i - 1])
    x, y = seen[i - 1] + share * (seen[i] - seen[i - 1])
    return float(x), float(y)


def _beside(curvature: float, x: float, y: float) -> tuple[float, float, float]:
    """The lane's nearest point, metres ahead; how far left of it (x, y) is; the lane's direction there."""
    at = x
    for _ in range(3):
        at = x + (y - curvature * at * at / 2) * curvature * at
    slope = float(np.arctan(curvature * at))
    off_x, off_y = x - at, y - curvature * at * at / 2
    return at, float(off_y * np.cos(slope) - off_x * np.sin(slope)), slope


def _moved(agent: Agent, i: int, scene: Scene, ego: Moment, changes: bool, shift: float) -> Agent:
    ahead, left = agent.ahead + agent.v_ahead * DT - shift, agent.left + agent.v_left * DT
    if agent.kind == "car":
        return replace(agent, ahead=ahead, v_ahead=_pace(agent, i, scene, ego, changes))
    if _has_left(agent, ahead, left, scene, shift):
        return replace(agent, ahead=GONE, left=0.0, v_ahead=0.0, v_left=0.0)
    return replace(agent, ahead=ahead, left=left)


def _pace(agent: Agent, i: int, scene: Scene, ego: Moment, changes: bool) -> float:
    """A car's speed after DT: that of the traffic, unless it waits still, or comes up behind the ego car."""
    if scene.kind == "lead" and i == 0 and not agent.v_ahead and not changes:
        return 0.0
    gap = -agent.ahead - EGO[0]
    behind = agent.ahead < 0 and abs(agent.left - ego.left) < LANE / 2
    if behind and gap < 2 + 1.2 * agent.v_ahead and ego.speed < agent.v_ahead + 1:
        return max(0.0, agent.v_ahead - 6 * DT)
    return min(TRAFFIC_SPEED, agent.v_ahead + 2 * DT)


def _has_left(agent: Agent, ahead: float, left: float, scene: Scene, shift: float) -> bool:
    """Has someone on foot crossed the road, or the arm? Then he is gone, so that nobody waits for his back."""
    if agent.v_left:
        edge = LANE / 2 + (LANE if np.sign(agent.v_left) == scene.free_side else 0) + 0.5
        return bool(left * np.sign(agent.v_left) > edge)
    if agent.v_ahead and scene.junction is not None:
        return bool((ahead - (scene.junction - shift) - ARM / 2) * np.sign(agent.v_ahead) > ARM / 2 + 0.5)
    return False


def _is_close(moment: Moment) -> bool:
    """Would the car, driving straight on, touch someone within 0.95 s? Not counted while it stands.

    Source: arXiv 2406.15349 (NAVSIM), time to collision within bound.
    """
    if moment.speed < 0.1:
        return False
    cos, sin = np.cos(moment.heading), np.sin(moment.heading)
    for time in CLOSE:
        way = moment.speed * time
        box = np.array([way * cos, moment.left + way * sin, moment.heading, *EGO])
        if overlaps(box, moment.scene.boxes(time)).any():
            return True
    return False


def _comfort(speeds: ndarray, rates: ndarray) -> float:
    """Share of decisions whose half second is comfortable: acceleration, jerk and sideways acceleration in bounds.

    Source: the bounds of nuPlan, arXiv 2106.11810, as NAVSIM uses them.
    Differs: over half seconds, and a share of them.
    """
    gas = np.diff(speeds) / STEP
    jerk = np.diff(gas, prepend=gas[:1]) / STEP
    sideways = speeds[:-1] * rates
    fine = (gas >= -4.05) & (gas <= 2.4) & (abs(jerk) <= 4.13) & (abs(sideways) <= 4.89)
    return float(fine.mean())
