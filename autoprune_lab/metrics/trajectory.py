"""Open-loop planning figures: how far planned waypoints lie from driven ones, and whether they hit anyone.

The frame is the ego car's: x forward, y to the left, in metres. A plan has T waypoints at equal steps of time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

EGO_LENGTH, EGO_WIDTH = 4.084, 1.85  # of the nuScenes car, in metres
SECONDS = (1, 2, 3)
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_POINT = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*(?:,\s*{_NUMBER}\s*)?[\])]")


@dataclass(frozen=True, eq=False)
class PlanError:
    """One plan against what was driven: distance in metres and contact with any agent, at each waypoint."""

    l2: Float[ndarray, "steps"]
    hits: Bool[ndarray, "steps"]

    def __post_init__(self) -> None:
        if self.l2.shape != self.hits.shape:
            raise ValueError(f"{len(self.l2)} distances but {len(self.hits)} contacts; one of each per waypoint")


def plan_error(
    plan: Float[ndarray, "steps 2"],
    driven: Float[ndarray, "driven 2"],
    agents: Sequence[ndarray] = (),
    ego: tuple[float, float] = (EGO_LENGTH, EGO_WIDTH),
) -> PlanError:
    """Compare waypoint by waypoint; `agents[t]` are boxes (x, y, heading, length, width) at waypoint t.

    Without agents nothing is hit. ValueError when the plans differ in length, or agents are given for other steps.
    """
    if plan.shape != driven.shape:
        raise ValueError(f"a plan of {len(plan)} waypoints cannot be compared with {len(driven)} driven ones")
    if len(agents) not in (0, len(plan)):
        raise ValueError(f"agents at {len(agents)} times for {len(plan)} waypoints; give one set per waypoint")
    l2 = np.hypot(*(plan - driven).T)
    boxes = ego_boxes(plan, ego)
    hits = [bool(overlaps(box, others).any()) for box, others in zip(boxes, agents, strict=False)]
    return PlanError(l2, np.array(hits or [False] * len(plan), dtype=bool))


def nearness(plan: Float[ndarray, "steps 2"] | None, driven: Float[ndarray, "driven 2"]) -> float:
    """exp(-d), d the mean distance in metres between planned and driven waypoints; 0 where there is no plan."""
    return 0.0 if plan is None else float(np.exp(-plan_error(plan, driven).l2.mean()))


def figures(errors: Sequence[PlanError], step: float = 0.5) -> dict[str, float]:
    """Means over plans, under the names and counts of open-loop nuScenes planning; `step` in seconds.

    `l2_1s`, `l2_2s`, `l2_3s`: distance at that time; `l2_avg`: their mean. `l2_to_1s`, ... and `l2_to_avg`: mean over
    the waypoints up to that time. `collision_1s`, ...: share of plans in contact at any waypoint up to that time.
    `collision_rate`: up to the last waypoint. Times that the plans do not reach are left out.

    Source: arXiv 2212.10156 (UniAD; distance at the time), 2207.07601 and 2303.12077 (ST-P3, VAD; mean up to the time).
    Differs: collisions are judged on exact boxes, not on a half-metre grid, and once hit is hit; plans whose driven
    path collides are not left out.
    """
    if not errors:
        raise ValueError("no plans to average")
    l2 = np.stack([error.l2 for error in errors])
    hit = np.logical_or.accumulate(np.stack([error.hits for error in errors]), axis=1)
    reached = {second: round(second / step) for second in SECONDS if round(second / step) <= l2.shape[1]}
    found: dict[str, float] = {}
    for name, values in (("l2", l2), ("l2_to", l2.cumsum(1) / np.arange(1, l2.shape[1] + 1))):
        at = {second: float(values[:, n - 1].mean()) for second, n in reached.items()}
        found |= {f"{name}_{second}s": value for second, value in at.items()}
        found[f"{name}_avg"] = float(np.mean(list(at.values()))) if at else float(l2.mean())
    found |= {f"collision_{second}s": float(hit[:, n - 1].mean()) for second, n in reached.items()}
    return found | {"collision_rate": float(hit[:, -1].mean())}


def ego_boxes(plan: Float[ndarray, "steps 2"], ego: tuple[float, float]) -> Float[ndarray, "steps 5"]:
    """The ego car at each waypoint, heading along the last move; a move under 0.1 m keeps the heading before."""
    moves = np.diff(plan, axis=0, prepend=np.zeros((1, 2)))
    heading, headings = 0.0, []
    for dx, dy in moves:
        heading = float(np.arctan2(dy, dx)) if np.hypot(dx, dy) >= 0.1 else heading
        headings.append(heading)
    size = np.broadcast_to(ego, (len(plan), 2))
    return np.column_stack([plan, headings, size])


def overlaps(box: Float[ndarray, "5"], others: Float[ndarray, "agents 5"]) -> Bool[ndarray, "agents"]:
    """Which of `others` share ground with `box`; separating axes, touching is no overlap."""
    apart = np.zeros(len(others), dtype=bool)
    mine, theirs = _corners(box[None]), _corners(others)
    for heading in (np.full(len(others), box[2]), others[:, 2]):
        for turn in (0.0, np.pi / 2):
            axis = np.stack([np.cos(heading + turn), np.sin(heading + turn)], -1)
            a, b = mine @ axis[:, :, None], theirs @ axis[:, :, None]
            apart |= (a.max((1, 2)) <= b.min((1, 2))) | (b.max((1, 2)) <= a.min((1, 2)))
    return ~apart


def _corners(boxes: Float[ndarray, "n 5"]) -> Float[ndarray, "n 4 2"]:
    x, y, heading, length, width = (boxes[:, i, None] for i in range(5))
    along, across = length / 2 * np.array([1, 1, -1, -1]), width / 2 * np.array([1, -1, -1, 1])
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], -1)


def read_trajectory(text: str, n_waypoints: int) -> Float[ndarray, "steps 2"] | None:
    """The last list of exactly `n_waypoints` points in a text, (T, 2); None where there is none.

    A point is a pair, or a triple with the heading last, in round or square brackets; a list is points with nothing
    but commas and space between them, so that coordinates in the reasoning before it are not taken for waypoints.
    """
    runs: list[list[tuple[float, float]]] = [[]]
    end = 0
    for found in _POINT.finditer(text):
        if text[end : found.start()].strip(" \t\r\n,;"):
            runs.append([])
        runs[-1].append((float(found[1]), float(found[2])))
        end = found.end()
    fitting = [run for run in runs if len(run) == n_waypoints]
    return np.array(fitting[-1]) if fitting else None
