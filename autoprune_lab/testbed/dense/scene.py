"""Scenes of the `dense` world: 20 to 24 things, some in frames, and a number; before anything is drawn or asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune_lab.testbed.shapes import scene as shapes

SHAPES = (*shapes.SHAPES, "ring", "bar")
COLOURS = (*shapes.COLOURS, "orange", "pink")
SIZES, PIXELS, PATCH, CELL = shapes.SIZES, shapes.PIXELS, shapes.PATCH, shapes.CELL

CELLS = 5  # things lie on a jittered 5 x 5 grid
IMAGE_SIZE = CELLS * CELL
GRID = IMAGE_SIZE // PATCH  # 15 x 15 = 225 visual tokens
MARGIN = 2  # pixels between a thing and its frame's outside
FEWEST, MOST = 20, 24  # things
HOPS = 3  # of the longest trail
LONER = 0.3  # how often a framed thing stands outside the trail
CROWD = (5, 9)  # things that share the crowd's colour or shape
_MIDDLE = CELLS // 2


@dataclass(frozen=True)
class Thing(shapes.Thing):
    """One drawn object; `left` and `top` in pixels."""

    framed: bool = False

    @property
    def centre_patch(self) -> int:
        """Row-major index of the patch that holds the centre."""
        x, y = self.centre
        return int(y // PATCH) * GRID + int(x // PATCH)

    @property
    def corner(self) -> int | None:
        """Which quarter of the picture holds it: 0, 1 above, 2, 3 below, left first; None on the lines between."""
        x, y = (int(value // CELL) for value in self.centre)
        return None if _MIDDLE in (x, y) else 2 * (y > _MIDDLE) + (x > _MIDDLE)


@dataclass(frozen=True)
class Scene:
    """Things 0 to `hops` are the stations of a trail, framed, each in another corner; perhaps one more is framed.

    Each station shares its shape, then its colour, then its shape with the next, and with no other framed thing.
    """

    things: tuple[Thing, ...]
    hops: int
    number: str
    number_left: int
    number_top: int
    paint_seed: int

    @property
    def digit_patches(self) -> tuple[int, ...]:
        """Row-major patch index of each digit, first digit first."""
        row = (self.number_top + 3) // PATCH
        return tuple(row * GRID + (self.number_left + 3 + PATCH * i) // PATCH for i in range(len(self.number)))

    def trail(self, start: int) -> tuple[int, ...]:
        """From a framed thing to its partner by shape, from there by colour, and so on, until nobody is left."""
        stations = [start]
        while partner := self._partners(stations[-1], ("shape", "colour")[(len(stations) - 1) % 2]):
            stations += partner
        return tuple(stations)

    def _partners(self, i: int, attribute: str) -> list[int]:
        here = self.things[i]
        return [
            j
            for j, other in enumerate(self.things)
            if other.framed and j != i and other.get(attribute) == here.get(attribute)
        ]


def make_scene(rng: np.random.Generator, hops: int | None = None) -> Scene:
    """Draw one scene; `hops` of its trail, 0 to 3, by chance if not given. The same generator state: the same scene."""
    hops = int(rng.integers(HOPS + 1)) if hops is None else hops
    framed = _framed_kinds(rng, hops, bool(rng.random() < LONER))
    crowd = _crowd_kinds(rng, framed, int(rng.integers(FEWEST, MOST + 1)) - len(framed))
    cells = _framed_cells(rng, len(framed))
    cells += [int(cell) for cell in rng.permutation(CELLS * CELLS) if cell not in cells]
    kinds = [(kind, i < len(framed)) for i, kind in enumerate((*framed, *crowd))]
    things = tuple(_place(rng, kind, is_framed, cell) for (kind, is_framed), cell in zip(kinds, cells, strict=False))
    number = str(rng.integers(10, 100) if rng.random() < 0.5 else rng.integers(100, 1000))
    row, column = divmod(cells[-1], CELLS)
    left = column * CELL + int(rng.integers(0, 2)) + (PATCH if len(number) == 2 and rng.random() < 0.5 else 0)
    top = row * CELL + PATCH * int(rng.integers(0, 3)) + int(rng.integers(0, 2))
    return Scene(things, hops, number, left, top, int(rng.integers(2**31)))


Kind = tuple[str, str]  # shape, colour


def _framed_kinds(rng: np.random.Generator, hops: int, loner: bool) -> list[Kind]:
    """The stations' kinds, and one that shares nothing with them."""
    shapes_left, colours_left = list(rng.permutation(SHAPES)), list(rng.permutation(COLOURS))
    shape, colour = shapes_left.pop(), colours_left.pop()
    kinds = [(str(shape), str(colour))]
    for hop in range(hops):
        shape, colour = (shape, colours_left.pop()) if hop % 2 == 0 else (shapes_left.pop(), colour)
        kinds.append((str(shape), str(colour)))
    return kinds + [(str(shapes_left.pop()), str(colours_left.pop()))] * loner


def _crowd_kinds(rng: np.random.Generator, framed: Sequence[Kind], n: int) -> list[Kind]:
    """`n` kinds, none of a framed thing, that may repeat; one colour or shape has 5 to 9 things in all."""
    free = [(shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) not in framed]
    attribute = int(rng.integers(2))
    value = (SHAPES, COLOURS)[attribute][int(rng.integers(len((SHAPES, COLOURS)[attribute])))]
    crowded = [kind for kind in free if kind[attribute] == value]
    others = [kind for kind in free if kind[attribute] != value]
    size = int(rng.integers(CROWD[0], CROWD[1] + 1)) - sum(kind[attribute] == value for kind in framed)
    crowd = [crowded[int(i)] for i in rng.integers(len(crowded), size=size)]
    return crowd + [others[int(i)] for i in rng.integers(len(others), size=n - size)]


def _framed_cells(rng: np.random.Generator, n: int) -> list[int]:
    """`n` cells off the middle lines, the first four in four corners."""
    corners = rng.permutation(4)
    cells: list[int] = []
    for i in range(n):
        row, column = divmod(int(corners[i % 4]), 2)
        near = [
            (row * (_MIDDLE + 1) + a) * CELLS + column * (_MIDDLE + 1) + b
            for a in range(_MIDDLE)
            for b in range(_MIDDLE)
        ]
        free = [cell for cell in near if cell not in cells]
        cells.append(free[int(rng.integers(len(free)))])
    return cells


def _place(rng: np.random.Generator, kind: Kind, framed: bool, cell: int) -> Thing:
    size = SIZES[int(rng.integers(2))]
    row, column = divmod(cell, CELLS)
    margin = MARGIN if framed else 0
    left, top = (int(value) for value in rng.integers(margin, CELL - PIXELS[size] - margin + 1, 2))
    return Thing(kind[0], kind[1], size, column * CELL + left, row * CELL + top, framed)
