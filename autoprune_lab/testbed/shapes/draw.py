"""Paints a scene, and tells which patch shows which thing."""

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from autoprune_lab.testbed.paint import background, clutter, paint_number, paint_thing, patch_owners, stencil
from autoprune_lab.testbed.shapes.scene import GRID, IMAGE_SIZE, PATCH, PIXELS, Scene


def draw(scene: Scene) -> UInt8[ndarray, "96 96 3"]:
    """The picture: textured background, clutter, things, number; RGB, 0 to 255."""
    rng = np.random.default_rng(scene.paint_seed)
    canvas = background(rng, IMAGE_SIZE)
    clutter(rng, canvas)
    for thing in scene.things:
        paint_thing(rng, canvas, stencil(thing.shape, PIXELS[thing.size]), thing.colour, thing.top, thing.left)
    paint_number(canvas, scene.number, scene.number_top, scene.number_left, PATCH)
    return np.asarray(np.clip(canvas, 0, 255), dtype=np.uint8)


def patch_things(scene: Scene, least: float = 0.2) -> Int[ndarray, "144"]:
    """Which thing each patch shows (row-major), -1 for none; a patch counts from `least` of its area."""
    masks = [(stencil(thing.shape, PIXELS[thing.size]), thing.top, thing.left) for thing in scene.things]
    return patch_owners(masks, GRID, PATCH, least)
