"""Scenes of the driving world: the road, the signals and who else is there, before anything is drawn or planned.

The frame is the ego car's: x forward, y to the left, metres, seconds; the origin is the middle of the ego car.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

KINDS = ("free", "lead", "light", "crossing", "blocked", "turn")
COMMANDS = ("straight", "left", "right")

LANE = 3.5  # width of a lane
ARM = 7.0  # width of a crossing road
EGO = (4.5, 1.9)  # length and width
SIZES = {"car": (4.5, 1.9, 1.5), "pedestrian": (0.6, 0.6, 1.75), "barrier": (1.0, 2.4, 1.1)}  # length, width, height
TRAFFIC_SPEED = 5.0  # of every car that moves
TOP_SPEED = 10


@dataclass(frozen=True)
class Agent:
    """Someone else: metres along and to the left of the ego lane's middle, and how fast these grow."""

    kind: str
    ahead: float
    left: float
    v_ahead: float = 0.0
    v_left: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One moment on the road; what the expert must heed can all be seen."""

    kind: str
    curvature: float  # of the ego lane, 1/m, positive to the left
    lane: str  # "left" or "right" of two lanes in one direction
    junction: float | None  # where a crossing road begins
    light: str | None  # "red", "green" or none
    zebra: float | None  # where a zebra crossing begins
    agents: tuple[Agent, ...]
    paint_seed: int

    @property
    def free_side(self) -> int:
        """+1 when the neighbour lane is on the left, -1 when on the right."""
        return 1 if self.lane == "right" else -1

    def boxes(self, time: float) -> Float[ndarray, "agents 5"]:
        """Every agent at `time`: x, y, heading, length, width."""
        rows = []
        for agent in self.agents:
            s, side = agent.ahead + agent.v_ahead * time, agent.left + agent.v_left * time
            length, width, _ = SIZES[agent.kind]
            rows.append((s, side + self.curvature * s * s / 2, np.arctan(self.curvature * s), length, width))
        return np.array(rows, dtype=float).reshape(-1, 5)


def make_scene(rng: np.random.Generator, kind: str) -> Scene:
    """Draw one scene of `kind`; the same generator state gives the same scene."""
    lane = "left" if rng.random() < 0.5 else "right"
    side = 1 if lane == "right" else -1
    curvature, junction, light, zebra, agents = _CASES[kind](rng, side)
    agents += _bystanders(rng, side, junction, zebra)
    return Scene(kind, curvature, lane, junction, light, zebra, tuple(agents), int(rng.integers(2**31)))


Case = tuple[float, float | None, str | None, float | None, list[Agent]]


def _free(rng: np.random.Generator, side: int) -> Case:
    zebra = _between(rng, 6, 16) if rng.random() < 0.3 else None
    return _bend(rng), None, None, zebra, _neighbour(rng, side)


def _lead(rng: np.random.Generator, side: int) -> Case:
    speed = TRAFFIC_SPEED if rng.random() < 0.5 else 0.0
    leader = Agent("car", _between(rng, 8, 24), 0.0, speed)
    return _bend(rng) / 2, None, None, None, [leader, *_neighbour(rng, side)]


def _light(rng: np.random.Generator, side: int) -> Case:
    return 0.0, _between(rng, 7, 18), "red" if rng.random() < 0.6 else "green", None, []


def _crossing(rng: np.random.Generator, side: int) -> Case:
    zebra = _between(rng, 5, 12)
    agents = []
    if rng.random() < 0.7:  # beyond the front camera's edge
        s, hand = zebra + 1.5, int(rng.choice((-1, 1)))
        away = _between(rng, max(0.85 * s, 4.5), max(0.85 * s, 4.5) + 3)
        agents.append(Agent("pedestrian", s, hand * away, 0.0, -hand * 1.3))
    return 0.0, None, None, zebra, agents


def _blocked(rng: np.random.Generator, side: int) -> Case:
    agents = [Agent("barrier", _between(rng, 12, 20), 0.0)]
    if rng.random() < 0.5:
        agents.append(Agent("car", _between(rng, 0, 4.5), side * LANE, TRAFFIC_SPEED))
    return 0.0, None, None, None, agents


def _turn(rng: np.random.Generator, side: int) -> Case:
    junction = _between(rng, 6, 12)
    agents = []
    for hand in (-1, 1):
        if rng.random() < 0.5:
            direction = float(rng.choice((-1, 1)))
            agents.append(
                Agent("pedestrian", junction + ARM / 2 - direction * 2, hand * _between(rng, 9, 12), direction)
            )
    return 0.0, junction, "green" if rng.random() < 0.6 else None, None, agents


_CASES = {
    "free": _free,
    "lead": _lead,
    "light": _light,
    "crossing": _crossing,
    "blocked": _blocked,
    "turn": _turn,
}


def _bystanders(rng: np.random.Generator, side: int, junction: float | None, zebra: float | None) -> list[Agent]:
    """People who stand on the pavement, away from crossings: nobody has to stop for them."""
    people = []
    for hand in (-1, 1):
        edge = LANE / 2 + (LANE if hand == side else 0)
        s = _between(rng, 2, 22)
        clear = zebra is None or abs(s - zebra - 1.5) > 4
        if rng.random() < 0.4 and clear and (junction is None or s < junction - 3):
            people.append(Agent("pedestrian", s, hand * (edge + _between(rng, 1.0, 2.0))))
    return people


def _neighbour(rng: np.random.Generator, side: int) -> list[Agent]:
    """Perhaps a car in the other lane, which does not matter to someone who keeps his own."""
    return [Agent("car", _between(rng, 2, 24), side * LANE, TRAFFIC_SPEED)] if rng.random() < 0.4 else []


def _bend(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.02, 0.02)) if rng.random() < 0.75 else 0.0


def _between(rng: np.random.Generator, low: float | int, high: float | int) -> float:
    return float(rng.uniform(low, high))
