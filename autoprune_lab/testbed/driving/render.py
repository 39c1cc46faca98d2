"""Paints what three cameras see, and tells which patch shows what."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

from autoprune_lab.testbed.driving.hull import convex_hull, upright_box
from autoprune_lab.testbed.driving.scene import ARM, LANE, SIZES, Agent, Scene

VIEWS = ("front-left", "front", "front-right")
YAW = {"front-left": np.radians(60), "front": 0.0, "front-right": -np.radians(60)}
IMAGE_SIZE, PATCH = 64, 8
GRID = IMAGE_SIZE // PATCH
FOCAL_X, FOCAL_Y = 40.0, 60.0  # pixels; taller than wide, so that distances can be told
HORIZON_ROW, CAMERA_HEIGHT, CAMERA_X = 22.0, 2.0, 1.0
FINE = 2  # supersampling
NEAR = 0.3  # metres before the camera that are not drawn
PAVEMENT = 2.5
RGB = {
    "asphalt": (88, 88, 94),
    "mark": (235, 235, 225),
    "pavement": (160, 152, 142),
    "grass": (82, 128, 64),
    "pedestrian": (250, 120, 20),
    "barrier": (250, 235, 60),
    "brake": (255, 20, 20),
    "red": (255, 25, 25),
    "green": (25, 240, 90),
    "ego": (40, 50, 140),
}
CAR_PAINT = ((60, 110, 220), (225, 225, 232), (30, 30, 36), (120, 60, 170), (70, 170, 190))
CLASSES = ("nothing", "car", "standing car", "pedestrian", "barrier", "red", "green")
GROUND = ("road", "mark", "zebra", "line", "junction")


@dataclass(frozen=True, eq=False)
class Picture:
    """What one camera sees; `owner` is the index of the thing at each fine pixel, -1 where there is none."""

    image: UInt8[ndarray, "64 64 3"]
    owner: ndarray
    ground: dict[str, ndarray]


def draw(scene: Scene, left: float = 0.0, heading: float = 0.0) -> tuple[Picture, ...]:
    """One picture a view, in the order of VIEWS. Thing i is agent i; the signal comes after the agents.

    The car stands `left` metres to the left of where the scene begins, turned `heading` radians to the left.
    """
    rng = np.random.default_rng(scene.paint_seed)
    paints = [CAR_PAINT[int(rng.integers(len(CAR_PAINT)))] for _ in scene.agents]
    return tuple(_view(scene, view, paints, rng, left, heading) for view in VIEWS)


def seen_from(boxes: Float[ndarray, "n 5"], left: float, heading: float) -> Float[ndarray, "n 5"]:
    """Boxes of the scene's frame in that of a car that stands `left` of its origin, turned by `heading`."""
    if not left and not heading:
        return boxes
    x, y = boxes[:, 0], boxes[:, 1] - left
    cos, sin = np.cos(heading), np.sin(heading)
    return np.column_stack([x * cos + y * sin, y * cos - x * sin, boxes[:, 2] - heading, boxes[:, 3:]])


def ground(scene: Scene, x: ndarray, y: ndarray) -> dict[str, ndarray]:
    """Masks of what the ground is at (x, y); `side` is the distance left of the ego lane's middle."""
    side = y - scene.curvature * x * x / 2
    low, high = sorted((-scene.free_side * LANE / 2, scene.free_side * LANE * 1.5))
    road = (side >= low) & (side <= high)
    divider = scene.free_side * LANE / 2
    mark = (abs(side - low) < 0.13) | (abs(side - high) < 0.13) | ((abs(side - divider) < 0.13) & (x % 4 < 2))
    pavement = (side >= low - PAVEMENT) & (side <= high + PAVEMENT) & ~road
    none = np.zeros_like(road)
    junction, line, zebra = none, none, none
    if scene.junction is not None:
        junction = (x >= scene.junction) & (x <= scene.junction + ARM)
        along = (x >= scene.junction - PAVEMENT) & (x <= scene.junction + ARM + PAVEMENT) & ~junction
        pavement = (pavement | along) & ~road
        line = road & (abs(x - scene.junction + 1) < 0.35)
        mark = mark & ~junction
    if scene.zebra is not None:
        zebra = road & (x >= scene.zebra) & (x <= scene.zebra + 3)
        mark = (mark & ~zebra) | (zebra & (side % 1.0 < 0.5))
    return {"road": road | junction, "mark": mark, "pavement": pavement & ~junction, "zebra": zebra, "line": line,
            "junction": junction, "side": side}  # fmt: skip


@cache
def sight(view: str) -> tuple[ndarray, ndarray, ndarray]:
    """Where each fine pixel meets the ground: x, y, and whether it does."""
    n = IMAGE_SIZE * FINE
    column, row = np.meshgrid((np.arange(n) + 0.5) / FINE, (np.arange(n) + 0.5) / FINE)
    below = row > HORIZON_ROW + 1
    depth = FOCAL_Y * CAMERA_HEIGHT / np.where(below, row - HORIZON_ROW, 1.0)
    left = -(column - IMAGE_SIZE / 2) * depth / FOCAL_X
    cos, sin = np.cos(YAW[view]), np.sin(YAW[view])
    return CAMERA_X + depth * cos - left * sin, depth * sin + left * cos, below


def project(view: str, points: Float[ndarray, "n 3"]) -> Float[ndarray, "m 2"]:
    """World points (x, y, height) to (column, row); those behind the camera are left out."""
    cos, sin = np.cos(YAW[view]), np.sin(YAW[view])
    x, y = points[:, 0] - CAMERA_X, points[:, 1]
    depth, left = x * cos + y * sin, -x * sin + y * cos
    seen = depth > NEAR
    depth = depth[seen]
    column = IMAGE_SIZE / 2 - FOCAL_X * left[seen] / depth
    row = HORIZON_ROW + FOCAL_Y * (CAMERA_HEIGHT - points[seen, 2]) / depth
    return np.column_stack([column, row])


def _view(
    scene: Scene, view: str, paints: list[tuple[int, int, int]], rng: np.random.Generator, left: float, heading: float
) -> Picture:
    n = IMAGE_SIZE * FINE
    x, y, below = sight(view)
    if left or heading:
        cos, sin = np.cos(heading), np.sin(heading)
        x, y = x * cos - y * sin, left + x * sin + y * cos
    seen = ground(scene, x, y)
    canvas = np.empty((n, n, 3))
    canvas[:] = RGB["grass"]
    for name in ("pavement", "road"):
        canvas[seen[name]] = RGB["asphalt" if name == "road" else name]
    canvas[seen["mark"] | seen["line"]] = RGB["mark"]
    canvas *= rng.uniform(0.9, 1.1)
    _sky(canvas, ~below, rng)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    owner = Image.new("I", (n, n), 0)
    pens = ImageDraw.Draw(image), ImageDraw.Draw(owner)
    boxes = seen_from(scene.boxes(0.0), left, heading)
    if scene.light:
        _signal(scene, view, len(scene.agents) + 1, pens, left, heading)
    order = sorted(range(len(scene.agents)), key=lambda i: -float(np.hypot(boxes[i, 0] - CAMERA_X, boxes[i, 1])))
    for i in order:
        _agent(scene.agents[i], boxes[i], view, paints[i], i + 1, pens)
    _bonnet(view, pens)
    grain = rng.normal(0, 4, (IMAGE_SIZE, IMAGE_SIZE, 1))
    small = np.asarray(image, dtype=float).reshape(IMAGE_SIZE, FINE, IMAGE_SIZE, FINE, 3).mean((1, 3)) + grain
    return Picture(np.clip(small, 0, 255).astype(np.uint8), np.asarray(owner) - 1, seen)


Pens = tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw]


def _sky(canvas: ndarray, where: ndarray, rng: np.random.Generator) -> None:
    """A pale sky before which some grey houses stand."""
    n = len(canvas)
    canvas[where] = np.array((165, 190, 225)) * rng.uniform(0.85, 1.1)
    for _ in range(int(rng.integers(2, 6))):
        left, width = int(rng.integers(0, n)), int(rng.integers(8, 30))
        top = int(rng.integers(8, int(HORIZON_ROW * FINE) - 2))
        area = canvas[top : int((HORIZON_ROW + 1) * FINE), left : left + width]
        area[:] = rng.uniform(90, 170)


def _hull(view: str, points: Float[ndarray, "n 3"]) -> list[tuple[float, float]]:
    """Outline of a convex body, in fine pixels; empty when nothing of it is seen."""
    seen = project(view, points) * FINE
    n = IMAGE_SIZE * FINE
    if len(seen) < 3 or seen[:, 0].max() < 0 or seen[:, 0].min() > n:
        return []
    return convex_hull([(float(column), float(row)) for column, row in seen])


def _agent(agent: Agent, box: ndarray, view: str, paint: tuple[int, int, int], mark: int, pens: Pens) -> None:
    height = SIZES[agent.kind][2]
    colour = paint if agent.kind == "car" else RGB[agent.kind]
    _paint(_hull(view, upright_box(box, 0.0, height)), colour, mark, pens)
    if agent.kind == "car" and agent.v_ahead == 0:  # brake lights across the tail
        x, y, heading, length, width = box
        tail = np.array([x - length / 2 * np.cos(heading), y - length / 2 * np.sin(heading), heading, 0.02, width])
        _paint(_hull(view, upright_box(tail, 0.5, 1.1)), RGB["brake"], mark, pens)


def _signal(scene: Scene, view: str, mark: int, pens: Pens, left: float, heading: float) -> None:
    """A large signal head beyond the junction, over the ego lane."""
    assert scene.junction is not None
    assert scene.light is not None
    box = seen_from(np.array([[scene.junction + ARM, 0.0, 0.0, 0.1, 2.0]]), left, heading)[0].copy()
    _paint(_hull(view, upright_box(box, 2.6, 5.2)), (20, 20, 20), mark, pens)
    low = 4.0 if scene.light == "red" else 2.8
    box[4] = 1.6
    _paint(_hull(view, upright_box(box, low, low + 1.0)), RGB[scene.light], mark, pens)


def _bonnet(view: str, pens: Pens) -> None:
    """The ego car's own nose; it tells the views apart."""
    n = float(IMAGE_SIZE * FINE)
    shape = {
        "front": [(n * 0.15, n), (n * 0.25, n * 0.93), (n * 0.75, n * 0.93), (n * 0.85, n)],
        "front-left": [(n * 0.6, n), (n, n * 0.82), (n, n)],
        "front-right": [(0.0, n), (0.0, n * 0.82), (n * 0.4, n)],
    }[view]
    _paint(shape, RGB["ego"], 0, pens)


def _paint(outline: list[tuple[float, float]], colour: tuple[int, int, int], mark: int, pens: Pens) -> None:
    if len(outline) >= 3:
        pens[0].polygon(outline, fill=colour)
        pens[1].polygon(outline, fill=mark)
