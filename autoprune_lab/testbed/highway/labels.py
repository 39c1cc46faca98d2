"""What training knows of a moment beside the answer: dense labels per patch, and where a driver would look."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from autoprune_lab.testbed.highway.scene import (
    AHEAD,
    ASIDE,
    BEHIND,
    IMAGE_SIZE,
    LANE,
    LANES,
    LENGTH,
    PATCH,
    SCALE,
    VIEWS,
    WIDTH,
    Car,
    Moment,
    has_lane,
)

GRID = IMAGE_SIZE // PATCH
N_PATCHES = len(VIEWS) * GRID * GRID
CLASSES = ("none", "car", "ego")
GROUND = ("road", "edge")
LEAST = 0.08  # share of a patch from which a car counts
SIDE = PATCH / SCALE  # metres of a patch


@dataclass(frozen=True, eq=False)
class Labels:
    """Per patch, views one after the other: P = 192."""

    owner: ndarray  # P: index of the car among those seen, -1 for none, the last for the ego car
    classes: ndarray  # P: index in CLASSES
    ground: ndarray  # P 2: which of GROUND it shows
    place: ndarray  # P 2: (ahead / 10, left / 5) of the car; 0 where there is none


def label(moment: Moment) -> Labels:
    """Dense labels of a moment."""
    cars = (*moment.seen(), Car(0.0, 0.0))
    cover = np.stack([*map(_cover, cars), np.full(N_PATCHES, LEAST)])
    owner = cover.argmax(0)
    owner[owner == len(cars)] = -1
    classes = np.where(owner == -1, 0, np.where(owner == len(cars) - 1, 2, 1))
    places = np.array([(car.ahead / 10, car.left / 5) for car in cars] + [(0.0, 0.0)])
    _, left = _middles()
    across = (LANES - 1 - moment.lane) * LANE + moment.left + left  # metres left of the rightmost lane's middle
    low, high = -LANE / 2, (LANES - 0.5) * LANE
    edge = np.minimum(abs(across - low), abs(across - high)) < SIDE / 2
    return Labels(owner, classes, np.stack([(low < across) & (across < high), edge], -1), places[owner])


def looks(moment: Moment, labels: Labels) -> ndarray:
    """Patches that decide the action, (2, P): who is next ahead in the lane, then who is in those beside it."""
    cars, first, second = moment.seen(), np.zeros(N_PATCHES, bool), np.zeros(N_PATCHES, bool)
    ahead, _ = nearest(moment, 0)
    if ahead is not None:
        first = labels.owner == cars.index(ahead)
    for car in (*nearest(moment, 1), *nearest(moment, -1)):
        if car is not None:
            second |= labels.owner == cars.index(car)
    return np.stack([first, second])


def nearest(moment: Moment, change: int) -> tuple[Car | None, Car | None]:
    """Who is next ahead in a lane, and who is next behind."""
    cars = moment.in_lane(change)
    ahead, behind = [car for car in cars if car.ahead > 0], [car for car in cars if car.ahead <= 0]
    return (ahead[0] if ahead else None), (behind[-1] if behind else None)


def gaps(moment: Moment) -> ndarray:
    """Metres / 10 to who is next ahead and behind in the own lane, the left and the right one, (6,).

    As far as the pictures reach where there is nobody; 0 where there is no lane.
    """
    found = []
    for change in (0, 1, -1):
        ahead, behind = nearest(moment, change)
        there = float(has_lane(moment, change))
        found += [there * (ahead.ahead if ahead else AHEAD), there * (-behind.ahead if behind else BEHIND)]
    return np.array(found) / 10


def _cover(car: Car) -> ndarray:
    """Share of every patch that a car covers, taken as parallel to the road."""
    ahead, left = _middles()
    along = np.clip((LENGTH + SIDE) / 2 - abs(ahead - car.ahead), 0, SIDE)
    across = np.clip((WIDTH + SIDE) / 2 - abs(left - car.left), 0, min(SIDE, WIDTH))
    return np.asarray(along * across / SIDE**2)


def _middles() -> tuple[ndarray, ndarray]:
    """Metres ahead and to the left of every patch's middle."""
    ahead = (np.arange(len(VIEWS) * GRID) + 0.5) * SIDE - BEHIND
    left = ASIDE - (np.arange(GRID) + 0.5) * SIDE
    grid = np.broadcast_to(ahead.reshape(len(VIEWS), 1, GRID), (len(VIEWS), GRID, GRID))
    return grid.ravel(), np.broadcast_to(left[None, :, None], grid.shape).ravel()
