"""What the worlds of shapes are painted with: stencils, digits, a background, clutter."""

from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

RGB = {
    "red": (222, 45, 45),
    "green": (45, 185, 70),
    "blue": (60, 95, 235),
    "yellow": (238, 218, 55),
    "purple": (168, 65, 205),
    "cyan": (70, 215, 225),
    "orange": (240, 135, 25),
    "pink": (250, 160, 200),
}
# 5 x 7 dot-matrix digits, one row of five bits per number
_DIGITS = (
    (14, 17, 19, 21, 25, 17, 14),
    (4, 12, 4, 4, 4, 4, 14),
    (14, 17, 1, 2, 4, 8, 31),
    (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2),
    (31, 16, 30, 1, 1, 17, 14),
    (6, 8, 16, 30, 17, 17, 14),
    (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14),
    (14, 17, 17, 15, 1, 2, 12),
)
_SUPERSAMPLE = 4
_SOFT = 16  # pixels over which the background's blotches blend


@cache
def stencil(shape: str, pixels: int) -> Float[ndarray, "pixels pixels"]:
    """Anti-aliased coverage in [0, 1] of one shape that fills a square of `pixels`."""
    n = pixels * _SUPERSAMPLE
    axis = (np.arange(n) + 0.5) / n * 2 - 1
    x, y = np.meshgrid(axis, axis)
    inside = {
        "circle": x**2 + y**2 <= 1,
        "square": np.maximum(abs(x), abs(y)) <= 0.86,
        "triangle": (abs(x) <= (y + 0.95) / 2) & (y <= 0.9),
        "diamond": abs(x) + abs(y) <= 1,
        "cross": (abs(x) <= 0.34) | (abs(y) <= 0.34),
        "ring": (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.3),
        "bar": abs(y) <= 0.36,
    }[shape]
    return np.asarray(inside.reshape(pixels, _SUPERSAMPLE, pixels, _SUPERSAMPLE).mean((1, 3)))


def paint_thing(rng: np.random.Generator, canvas: ndarray, mask: ndarray, colour: str, top: int, left: int) -> None:
    """One stencil in a shade of its colour."""
    mask = mask[..., None]
    paint = np.asarray(RGB[colour]) * rng.uniform(0.88, 1.05) + rng.normal(0, 5, (*mask.shape[:2], 1))
    area = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    area[:] = area * (1 - mask) + paint * mask


def paint_number(canvas: ndarray, number: str, top: int, left: int, step: int) -> None:
    """White digits of 5 x 7 pixels, one every `step` pixels."""
    for i, digit in enumerate(number):
        area = canvas[top : top + 7, left + step * i : left + step * i + 5]
        area[_digit(int(digit))] = 250


def patch_owners(masks: list[tuple[ndarray, int, int]], grid: int, patch: int, least: float) -> ndarray:
    """Which (mask, top, left) covers each patch most (row-major), -1 where none covers more than `least` of it."""
    cover = np.zeros((len(masks) + 1, grid, grid))
    cover[-1] = least
    for i, (mask, top, left) in enumerate(masks):
        page = np.zeros((grid * patch, grid * patch))
        page[top : top + len(mask), left : left + len(mask)] = mask
        cover[i] = page.reshape(grid, patch, grid, patch).mean((1, 3))
    winner = cover.reshape(len(cover), -1).argmax(0)
    return np.where(winner == len(masks), -1, winner)


def background(rng: np.random.Generator, size: int) -> ndarray:
    """Soft blotches of a muted tint plus fine grain, (size, size, 3)."""
    tint = rng.uniform(60, 120) + rng.normal(0, 8, 3)
    blend = _blend(size)
    blotches = blend @ rng.normal(0, 13, (blend.shape[1], blend.shape[1])) @ blend.T
    return np.asarray(tint + blotches[..., None] + rng.normal(0, 5, (size, size, 1)))


def clutter(rng: np.random.Generator, canvas: ndarray) -> None:
    """Short grey strokes that mean nothing."""
    for _ in range(int(rng.integers(5, 11))):
        left, top = rng.integers(0, len(canvas) - 7, 2)
        grey = rng.uniform(30, 170)
        length = int(rng.integers(3, 7))
        if rng.random() < 0.5:
            canvas[top, left : left + length] = grey
        else:
            canvas[top : top + length, left] = grey


@cache
def _blend(size: int) -> Float[ndarray, "size blotches"]:
    """How much of each blotch a pixel shows: its first one all of it, those behind more and more of the next."""
    blotch, faded = np.divmod(np.arange(size), _SOFT)
    share = np.zeros((size, -(-size // _SOFT) + 1))
    share[np.arange(size), blotch] = 1 - faded / _SOFT
    share[np.arange(size), blotch + 1] = faded / _SOFT
    return share


@cache
def _digit(value: int) -> ndarray:
    return np.array([[row >> (4 - bit) & 1 for bit in range(5)] for row in _DIGITS[value]], dtype=bool)
