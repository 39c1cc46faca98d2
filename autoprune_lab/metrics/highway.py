"""Figures of rides on highway-env's highway: what came of each, and means over many."""

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune_lab.metrics.closed_loop import PENALTY, Outcome, means


@dataclass(frozen=True)
class Ride(Outcome):
    """One ride.

    `completion`: share of the way, in [0, 1]; `seconds` it took, `metres` driven. `short_ttc`: a collision within
    0.95 s was ahead at some decision. `reward`: highway-env's own, `unreadable`: share, both means over the decisions.
    """

    completion: float
    seconds: int
    metres: float
    crashed: bool
    short_ttc: bool
    reward: float
    unreadable: float

    @property
    def succeeds(self) -> bool:
        """The whole way, in time, nobody touched."""
        return self.completion >= 1 and not self.crashed

    @property
    def score(self) -> float:
        """The driving score, in [0, 1], as `Drive` has it: the share of the way, times a factor for a collision."""
        return self.completion * (PENALTY["car"] if self.crashed else 1.0)


def figures(rides: Sequence[Ride]) -> dict[str, float]:
    """Means over rides; `speed` in m/s, over all of their seconds."""
    if not rides:
        raise ValueError("no rides to average")
    seconds = sum(ride.seconds for ride in rides)
    columns: dict[str, Sequence[float]] = {
        "success_rate": [ride.succeeds for ride in rides],
        "driving_score": [ride.score for ride in rides],
        "route_completion": [ride.completion for ride in rides],
        "collision_rate": [ride.crashed for ride in rides],
        "short_ttc": [ride.short_ttc for ride in rides],
        "reward": [ride.reward for ride in rides],
        "unreadable": [ride.unreadable for ride in rides],
    }
    return means(columns) | {"speed": sum(ride.metres for ride in rides) / seconds if seconds else 0.0}
