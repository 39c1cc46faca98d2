"""Paints a scene, and tells which patch shows which thing."""

from functools import cache

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from autoprune_lab.testbed.shapes.scene import GRID, IMAGE_SIZE, PATCH, PIXELS, Scene

RGB = {
    "red": (222, 45, 45),
    "green": (45, 185, 70),
    "blue": (60, 95, 235),
    "yellow": (238, 218, 55),
    "purple": (168, 65, 205),
    "cyan": (70, 215, 225),
}
# 5 x 7 dot-matrix digits, one row of five bits per number
DIGITS = (
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


def draw(scene: Scene) -> UInt8[ndarray, "96 96 3"]:
    """The picture: textured background, clutter, things, number; RGB, 0 to 255."""
    rng = np.random.default_rng(scene.paint_seed)
    canvas = _background(rng)
    _clutter(rng, canvas)
    for thing in scene.things:
        mask = stencil(thing.shape, PIXELS[thing.size])[..., None]
        paint = np.asarray(RGB[thing.colour]) * rng.uniform(0.88, 1.05) + rng.normal(0, 5, (*mask.shape[:2], 1))
        area = canvas[thing.top : thing.top + mask.shape[0], thing.left : thing.left + mask.shape[1]]
        area[:] = area * (1 - mask) + paint * mask
    for i, digit in enumerate(scene.number):
        left = scene.number_left + PATCH * i
        area = canvas[scene.number_top : scene.number_top + 7, left : left + 5]
        area[_digit(int(digit))] = 250
    return np.asarray(np.clip(canvas, 0, 255), dtype=np.uint8)


def patch_things(scene: Scene, least: float = 0.2) -> Int[ndarray, "144"]:
    """Which thing each patch shows (row-major), -1 for none; a patch counts from `least` of its area."""
    cover = np.zeros((len(scene.things) + 1, GRID, GRID))
    cover[-1] = least
    for i, thing in enumerate(scene.things):
        page = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
        mask = stencil(thing.shape, PIXELS[thing.size])
        page[thing.top : thing.top + len(mask), thing.left : thing.left + len(mask)] = mask
        cover[i] = page.reshape(GRID, PATCH, GRID, PATCH).mean((1, 3))
    winner = cover.reshape(len(cover), -1).argmax(0)
    return np.where(winner == len(scene.things), -1, winner)


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
    }[shape]
    return np.asarray(inside.reshape(pixels, _SUPERSAMPLE, pixels, _SUPERSAMPLE).mean((1, 3)))


@cache
def _digit(value: int) -> ndarray:
    return np.array([[row >> (4 - bit) & 1 for bit in range(5)] for row in DIGITS[value]], dtype=bool)


def _background(rng: np.random.Generator) -> ndarray:
    """Soft blotches of a muted tint plus fine grain."""
    tint = rng.uniform(60, 120) + rng.normal(0, 8, 3)
    coarse = rng.normal(0, 13, (7, 7, 1)).repeat(16, 0).repeat(16, 1)[: IMAGE_SIZE + 16, : IMAGE_SIZE + 16]
    kernel = np.ones(16) / 16
    soft = np.apply_along_axis(np.convolve, 0, coarse[..., 0], kernel, "valid")
    soft = np.apply_along_axis(np.convolve, 1, soft, kernel, "valid")[:IMAGE_SIZE, :IMAGE_SIZE, None]
    return np.asarray(tint + soft + rng.normal(0, 5, (IMAGE_SIZE, IMAGE_SIZE, 1)))


def _clutter(rng: np.random.Generator, canvas: ndarray) -> None:
    """Short grey strokes that mean nothing."""
    for _ in range(int(rng.integers(5, 11))):
        left, top = rng.integers(0, IMAGE_SIZE - 7, 2)
        grey = rng.uniform(30, 170)
        length = int(rng.integers(3, 7))
        if rng.random() < 0.5:
            canvas[top, left : left + length] = grey
        else:
            canvas[top : top + length, left] = grey
