"""How a situation is worded and a plan is answered: a meta-action, then six waypoints in quarter metres."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from autoprune_lab.testbed.driving.expert import ACTIONS, Situation
from autoprune_lab.testbed.driving.scene import COMMANDS, TOP_SPEED

N_WAYPOINTS = 6
GRAIN = 0.25  # metres; the expert's plan is given to this precision
FARTHEST, WIDEST = 31.0, 12.0
LONG = tuple(f"{value:.2f}" for value in np.arange(0, FARTHEST + GRAIN, GRAIN))
SIDE = tuple(f"{value:+.2f}" for value in np.arange(-WIDEST, WIDEST + GRAIN, GRAIN))
ORDERS = {"straight": "go straight on", "left": "turn left", "right": "turn right"}
TEMPLATES = (
    "speed {speed} m/s ; {order} .",
    "you drive at {speed} m/s . {order} . what is the plan ?",
    "the car does {speed} m/s and shall {order} ; plan the next three seconds .",
)


def question(situation: Situation, rng: np.random.Generator) -> str:
    """The situation in one of several wordings."""
    template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
    return template.format(speed=situation.speed, order=ORDERS[situation.command])


def answer(action: str, waypoints: Float[ndarray, "6 2"]) -> str:
    """`action x y x y ...`: x ahead as 12.25, y to the left as +0.50, rounded to GRAIN."""
    words = [action]
    for x, y in waypoints:
        words += [LONG[_index(x, 0.0, len(LONG))], SIDE[_index(y, -WIDEST, len(SIDE))]]
    return " ".join(words)


def parse(text: str) -> tuple[str, Float[ndarray, "6 2"]] | None:
    """Meta-action and waypoints (x, y) in metres; None for anything that `answer` could not have written."""
    words = text.split()
    if len(words) != 1 + 2 * N_WAYPOINTS or words[0] not in ACTIONS:
        return None
    if not set(words[1::2]) <= set(LONG) or not set(words[2::2]) <= set(SIDE):
        return None
    return words[0], np.array(words[1:], dtype=float).reshape(N_WAYPOINTS, 2)


def words() -> Sequence[str]:
    """Every word of questions and answers, in a fixed order: coordinates stay neighbours."""
    asked = {word for text in (*TEMPLATES, *ORDERS.values()) for word in text.split() if word[0] != "{"}
    speeds = [str(speed) for speed in range(TOP_SPEED + 1)]
    return [*speeds, *sorted({*asked, *ACTIONS, *COMMANDS}), *LONG, *SIDE]


def _index(value: float, low: float, n: int) -> int:
    return int(np.clip(round((float(value) - low) / GRAIN), 0, n - 1))
