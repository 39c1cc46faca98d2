"""highway-env, headless: rides on its highway, and its own pictures of one. The only file that knows it.

Source: https://github.com/Farama-Foundation/HighwayEnv, 1.12, `highway-fast-v0`.
Differs: four lanes and 18 other cars, denser or sparser; speeds to aim at from 15 m/s on, as others are so slow.
"""

import math
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from autoprune_lab.testbed.highway.scene import (
    AHEAD,
    BEHIND,
    IMAGE_SIZE,
    LANE,
    LANES,
    SCALE,
    SPEEDS,
    VIEWS,
    Car,
    Moment,
)

DENSITIES = {"sparse": 0.75, "busy": 1.0, "dense": 1.25}  # highway-env's default is 1
OTHERS = 18
MARGIN = 5.0  # metres beyond the pictures from which cars still show in part
HAZE = 0.4  # of white at the far end; without it nothing but their order tells the views apart
MIDDLE = 1000.0  # metres from which a picture's road goes on to either side


def missing() -> str | None:
    """What is not installed, with the remedy; None where all is."""
    if all(find_spec(name) for name in ("highway_env", "gymnasium", "pygame")):
        return None
    return "highway-env is not installed: pip install 'autoprune-lab[highway]'"


class Highway:
    """A ride under way, decided upon once a second; the same seed gives the same traffic."""

    def __init__(self, seed: int, density: float) -> None:
        _import_quietly()
        from highway_env.envs.highway_env import HighwayEnvFast

        self._env: Any = HighwayEnvFast(
            {
                "lanes_count": LANES,
                "vehicles_count": OTHERS,
                "vehicles_density": density,
                "action": {"type": "DiscreteMetaAction", "target_speeds": list(SPEEDS)},
                "observation": {
                    "type": "AttributesObservation",
                    "attributes": ["time"],
                },  # the cheapest: pictures count
            }
        )
        self._env.reset(seed=seed)
        self._start = self._metres()

    def act(self, action: str) -> float:
        """One second of driving; highway-env's reward for it, in [0, 1]."""
        return float(self._env.step(self._env.action_type.actions_indexes[action])[1])

    @property
    def crashed(self) -> bool:
        """Has the ego car touched another?"""
        return bool(self._env.vehicle.crashed)

    @property
    def metres(self) -> float:
        """Driven so far, along the road."""
        return self._metres() - self._start

    @property
    def closing(self) -> float:
        """Seconds until the ego car touches who is ahead in its lane if both go on as they do; inf where never."""
        ego = self._env.vehicle
        ahead, _ = self._env.road.neighbour_vehicles(ego)
        if ahead is None or ahead.speed >= ego.speed:
            return math.inf
        return float((ahead.position[0] - ego.position[0] - ego.LENGTH) / (ego.speed - ahead.speed))

    @property
    def moment(self) -> Moment:
        """What the pictures show now, and the ego car's speed."""
        ego = self._env.vehicle
        off = [(car, *(car.position - ego.position)) for car in self._env.road.vehicles if car is not ego]
        cars = tuple(
            Car(float(x), -float(y), -float(car.heading)) for car, x, y in off if -BEHIND - MARGIN < x < AHEAD + MARGIN
        )
        lane = int(ego.lane_index[2])
        left = lane * LANE - float(ego.position[1])
        return Moment(lane, left, -float(ego.heading), float(ego.speed), cars, self._metres())

    def _metres(self) -> float:
        return float(self._env.vehicle.position[0])


def draw(moment: Moment) -> UInt8[ndarray, "64 192 3"]:
    """highway-env's picture of a moment, from BEHIND to AHEAD, the paler the farther ahead."""
    road = _road()
    import pygame
    from highway_env.road.graphics import RoadGraphics, WorldSurface
    from highway_env.vehicle.behavior import IDMVehicle
    from highway_env.vehicle.controller import MDPVehicle

    at = np.array([MIDDLE + moment.along % MIDDLE, moment.lane * LANE - moment.left])
    others = [IDMVehicle(road, at + np.array([car.ahead, -car.left]), -car.heading) for car in moment.cars]
    road.vehicles = [*others, MDPVehicle(road, at, -moment.heading)]
    size = (len(VIEWS) * IMAGE_SIZE, IMAGE_SIZE)
    surface = WorldSurface(size, 0, pygame.Surface(size))
    surface.scaling, surface.centering_position = SCALE, [BEHIND * SCALE / size[0], 0.5]
    surface.move_display_window_to(at)
    RoadGraphics.display(road, surface)
    RoadGraphics.display_traffic(road, surface, offscreen=True)
    picture = np.moveaxis(pygame.surfarray.array3d(surface), 0, 1)
    haze = np.linspace(0, HAZE, size[0])[:, None]
    return np.asarray(np.rint(picture + haze * (255.0 - picture)), dtype=np.uint8)


@cache
def _road() -> Any:
    """An empty one, to be filled with whom a picture shows."""
    _import_quietly()
    from highway_env.road.road import Road, RoadNetwork

    return Road(RoadNetwork.straight_road_network(LANES, speed_limit=30))


def _import_quietly() -> None:
    """pygame greets whoever imports it first."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import_module("pygame")
