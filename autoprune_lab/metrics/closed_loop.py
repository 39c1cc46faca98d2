"""Figures of drives in a closed loop: what came of each, its driving score, and means over many."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

PENALTY = {"pedestrian": 0.5, "car": 0.6, "barrier": 0.65}
RAN_RED = 0.7
Kind = TypeVar("Kind", bound="Outcome")


@dataclass(frozen=True)
class Outcome:
    """What came of an episode: fields that are JSON."""

    def told(self) -> str:
        """As text, for a record."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls: type[Kind], text: str) -> Kind | None:
        """What `told` wrote; None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Drive(Outcome):
    """One drive.

    `completion`: share of the route, in [0, 1]; `seconds` it took. `hit`: what was touched, "" for nothing. `close`:
    a collision within 0.95 s was ahead at some decision. `comfort`, `unreadable`: shares of its decisions.
    """

    completion: float
    seconds: float
    hit: str
    ran_red: bool
    left_road: bool
    short_ttc: bool
    comfort: float
    unreadable: float = 0.0

    @property
    def succeeds(self) -> bool:
        """The whole route, in time, nobody touched, no red light passed, never off the road."""
        return self.completion >= 1 and not (self.hit or self.ran_red or self.left_road)

    @property
    def score(self) -> float:
        """The driving score, in [0, 1]: the share of the route times a factor for each infraction.

        Source: the CARLA leaderboard, which Bench2Drive (arXiv 2406.03877) uses: 0.5 for a pedestrian, 0.6 for a
        car, 0.65 for what stands, 0.7 for a red light.
        Differs: a collision ends the drive, as does leaving the road, which has no factor of its own.
        """
        return self.completion * PENALTY.get(self.hit, 1.0) * (RAN_RED if self.ran_red else 1.0)


def figures(drives: Sequence[Drive]) -> dict[str, float]:
    """Means over drives.

    `success_rate` and `driving_score` as Bench2Drive has them; `collision_rate`, `red_lights`, `off_road`,
    `route_completion`; `short_ttc`: share of drives with a collision within 0.95 s ahead at some decision; `comfort`;
    `unreadable`: share of decisions; `seconds` a drive took.
    """
    if not drives:
        raise ValueError("no drives to average")
    columns: dict[str, Sequence[float]] = {
        "success_rate": [drive.succeeds for drive in drives],
        "driving_score": [drive.score for drive in drives],
        "route_completion": [drive.completion for drive in drives],
        "collision_rate": [bool(drive.hit) for drive in drives],
        "red_lights": [drive.ran_red for drive in drives],
        "off_road": [drive.left_road for drive in drives],
        "short_ttc": [drive.short_ttc for drive in drives],
        "comfort": [drive.comfort for drive in drives],
        "unreadable": [drive.unreadable for drive in drives],
        "seconds": [drive.seconds for drive in drives],
    }
    return means(columns)


def means(columns: Mapping[str, Sequence[float | bool]]) -> dict[str, float]:
    """Of each figure's numbers, or yes and no."""
    return {name: float(np.mean(np.array(values, dtype=float))) for name, values in columns.items()}
