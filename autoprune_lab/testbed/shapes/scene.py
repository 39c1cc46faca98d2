"""Scenes of the `shapes` world: what lies where, before anything is drawn or asked."""

from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SIZES = ("small", "large")
PIXELS = {"small": 13, "large": 19}

IMAGE_SIZE = 96
PATCH = 8
GRID = IMAGE_SIZE // PATCH  # 12 x 12 = 144 visual tokens
CELLS = 4  # things lie on a jittered 4 x 4 grid
CELL = IMAGE_SIZE // CELLS


@dataclass(frozen=True)
class Thing:
    """One drawn object; `left` and `top` in pixels."""

    shape: str
    colour: str
    size: str
    left: int
    top: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return self.left + PIXELS[self.size] / 2, self.top + PIXELS[self.size] / 2

    @property
    def centre_patch(self) -> int:
        """Row-major index of the patch that holds the centre."""
        x, y = self.centre
        return int(y // PATCH) * GRID + int(x // PATCH)

    def get(self, attribute: str) -> str:
        """`shape`, `colour` or `size`."""
        return {"shape": self.shape, "colour": self.colour, "size": self.size}[attribute]


@dataclass(frozen=True)
class Scene:
    """Things, one number, and a planted chain: things 0, 1, 2 are A, B, C.

    A is the only thing with its `clue` value. B alone shares A's `link` value. C alone shares B's `clue` value.
    So "the other thing with A's link" is B, and "the other thing with B's clue" is C.
    """

    things: tuple[Thing, ...]
    number: str
    number_left: int
    number_top: int
    clue: str  # "colour" or "shape"
    paint_seed: int

    @property
    def link(self) -> str:
        """The attribute that A and B share."""
        return "shape" if self.clue == "colour" else "colour"

    @property
    def digit_patches(self) -> tuple[int, ...]:
        """Row-major patch index of each digit, first digit first."""
        row = (self.number_top + 3) // PATCH
        return tuple(row * GRID + (self.number_left + 3 + PATCH * i) // PATCH for i in range(len(self.number)))


def make_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene of 6 to 10 things; the same generator state gives the same scene."""
    clue = "colour" if rng.random() < 0.5 else "shape"
    kinds = _chain_kinds(rng, clue)
    kinds += _other_kinds(rng, clue, kinds, int(rng.integers(3, 8)))
    cells = rng.permutation(CELLS * CELLS)
    things = tuple(_place(rng, kind, int(cell)) for kind, cell in zip(kinds, cells[1:], strict=False))
    number = str(rng.integers(10, 100) if rng.random() < 0.5 else rng.integers(100, 1000))
    row, column = divmod(int(cells[0]), CELLS)
    left = column * CELL + int(rng.integers(0, 2)) + (PATCH if len(number) == 2 and rng.random() < 0.5 else 0)
    top = row * CELL + PATCH * int(rng.integers(0, 3)) + int(rng.integers(0, 2))
    return Scene(things, number, left, top, clue, int(rng.integers(2**31)))


def _chain_kinds(rng: np.random.Generator, clue: str) -> list[tuple[str, str]]:
    """(shape, colour) of A, B, C for a chain whose first clue is a colour or a shape."""
    clues, links = (COLOURS, SHAPES) if clue == "colour" else (SHAPES, COLOURS)
    a, b = rng.choice(len(clues), 2, replace=False)
    s, t = rng.choice(len(links), 2, replace=False)
    pairs = [(clues[a], links[s]), (clues[b], links[s]), (clues[b], links[t])]
    return [(link, first) if clue == "colour" else (first, link) for first, link in pairs]


def _other_kinds(rng: np.random.Generator, clue: str, chain: list[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    """`n` more kinds, all different, that leave the chain's clues intact; often several share one value."""
    (shape_a, colour_a), (shape_b, colour_b) = chain[:2]
    taken = set(chain)
    free = [
        (shape, colour)
        for shape in SHAPES
        for colour in COLOURS
        if (shape, colour) not in taken
        and (shape != shape_a if clue == "colour" else shape not in (shape_a, shape_b))
        and (colour not in (colour_a, colour_b) if clue == "colour" else colour != colour_a)
    ]
    order = [free[i] for i in rng.permutation(len(free))]
    if rng.random() < 0.7:  # several things of one shape or colour, so that there is something to count
        attribute = int(rng.integers(2))
        value = order[0][attribute]
        crowd = [kind for kind in order if kind[attribute] == value][: int(rng.integers(2, 5))]
        order = crowd + [kind for kind in order if kind[attribute] != value]
    return order[:n]


def _place(rng: np.random.Generator, kind: tuple[str, str], cell: int) -> Thing:
    size = SIZES[int(rng.integers(2))]
    row, column = divmod(cell, CELLS)
    room = CELL - PIXELS[size]
    left, top = (int(value) for value in rng.integers(0, room + 1, 2))
    return Thing(kind[0], kind[1], size, column * CELL + left, row * CELL + top)
