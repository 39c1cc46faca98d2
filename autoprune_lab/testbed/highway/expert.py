"""The expert of the highway: it goes by what the pictures show and its own speed, and takes all others to be as slow.

Whoever sees the pictures can therefore do as it does: nobody's speed can be told from one of them.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from autoprune_lab.testbed.highway.scene import LENGTH, SPEEDS, Moment, has_lane

ACTIONS = ("IDLE", "FASTER", "SLOWER", "LANE_LEFT", "LANE_RIGHT")  # highway-env's meta-actions
STEPS = {"FASTER": 1, "SLOWER": -1}  # of SPEEDS
CHANGES = {"LANE_LEFT": 1, "LANE_RIGHT": -1}  # lanes to the left
TRAFFIC, FAST_TRAFFIC = 16.0, 22.0  # m/s, what is believed of who is ahead, and of who comes from behind
HASTE = 0.6  # seconds in which two thirds of a change of speed are done: highway-env's
LOOK, STEP = 4, 0.2  # seconds planned ahead, and between two looks at the gaps
GAP, GAP_BEHIND = 4.0, 3.0  # metres from bumper to bumper, at least
BOTHER = 3.0  # metres that a change of lane must gain
UNSAFE, NOWHERE = -100.0, -1000.0  # metres


def decide(moment: Moment) -> str:
    """The action of most `worth`; of equals the first."""
    worths = worth(moment)
    return max(ACTIONS, key=lambda action: worths[action])


def worth(moment: Moment) -> Mapping[str, float]:
    """Metres that each action comes in LOOK seconds behind who is ahead, less than nothing where it is not safe.

    It is safe where GAP is kept even if the car slows down as fast as it can from the next decision on.
    """
    return {action: _worth(moment, action) for action in ACTIONS}


def _worth(moment: Moment, action: str) -> float:
    change, step = CHANGES.get(action, 0), STEPS.get(action, 0)
    if not has_lane(moment, change):
        return NOWHERE
    cautious, bother = _driven(moment.speed, step, -1), BOTHER * abs(change)
    spare = _spare(moment, change, cautious)
    if change:
        spare = min(spare, _spare(moment, 0, cautious[: round(1 / STEP)]))
    if spare < 0:
        return UNSAFE + spare - bother
    free = float(_driven(moment.speed, step, 0)[-1])
    ahead = [car.ahead for car in moment.in_lane(change) if car.ahead > 0]
    behind_them = ahead[0] - LENGTH - GAP + TRAFFIC * LOOK if ahead else free
    return min(free, behind_them) - bother


@lru_cache(1024)
def _driven(speed: float, step: int, later: int) -> Float[ndarray, "times"]:
    """Metres at every STEP, aiming one `step` of SPEEDS higher at first and `later` more after each second."""
    driven, metres = 0.0, []
    for second in range(LOOK):
        aim = _aim(speed, later if second else step)
        for _ in range(round(1 / STEP)):
            speed += (aim - speed) * STEP / HASTE
            driven += speed * STEP
            metres.append(driven)
    return np.array(metres)


def _aim(speed: float, step: int) -> float:
    """The speed aimed at, so many of SPEEDS above the nearest."""
    nearest = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - speed))
    return float(SPEEDS[min(max(nearest + step, 0), len(SPEEDS) - 1)])


def _spare(moment: Moment, change: int, driven: Float[ndarray, "times"]) -> float:
    """Metres more than needed, the least over the times, to the cars of a lane; who is behind in the own one brakes."""
    times, spare = np.arange(1, len(driven) + 1) * STEP, [np.inf]
    for car in moment.in_lane(change):
        if car.ahead > 0:
            spare.append(car.ahead + float((TRAFFIC * times - driven).min()) - LENGTH - GAP)
        elif change:
            spare.append(float((driven - FAST_TRAFFIC * times).min()) - car.ahead - LENGTH - GAP_BEHIND)
    return float(min(spare))
