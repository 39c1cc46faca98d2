"""What training knows of a scene beside the answer: dense labels per patch, and where a driver would look."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from autoprune_lab.testbed.driving.expert import Judgement, walker
from autoprune_lab.testbed.driving.render import CLASSES, FINE, GRID, GROUND, PATCH, VIEWS, Picture, seen_from, sight
from autoprune_lab.testbed.driving.scene import ARM, Scene

N_PATCHES = len(VIEWS) * GRID * GRID
LEAST_OBJECT, LEAST_GROUND = 0.06, 0.1  # share of a patch from which it counts


@dataclass(frozen=True, eq=False)
class Labels:
    """Per patch, views one after the other: P = 192."""

    owner: ndarray  # P: index of the thing, -1 for none
    classes: ndarray  # P: index in CLASSES
    ground: ndarray  # P 5: which of GROUND it shows
    place: ndarray  # P 2: (x / 10, y / 5) of the thing; 0 where there is none
    side: ndarray  # P: distance left of the lane's middle / 5, at most 2 either way; NaN off the near ground


def label(scene: Scene, pictures: tuple[Picture, ...], left: float = 0.0, heading: float = 0.0) -> Labels:
    """Dense labels of one scene, whose pictures were drawn from there."""
    n_things = len(scene.agents) + (scene.light is not None)
    owner = np.concatenate([_owner(picture.owner, n_things) for picture in pictures])
    of_thing = [_class_of(scene, i) for i in range(n_things)]
    places = np.zeros((n_things + 1, 2))
    boxes = seen_from(scene.boxes(0.0), left, heading)
    places[: len(boxes)] = boxes[:, :2] / (10, 5)
    if scene.light is not None and scene.junction is not None:
        signal = seen_from(np.array([[scene.junction + ARM, 0.0, 0.0, 0.0, 0.0]]), left, heading)
        places[len(boxes)] = signal[0, :2] / (10, 5)
    grounds, sides = zip(*(_ground(p.ground, view) for view, p in zip(VIEWS, pictures, strict=True)), strict=True)
    classes = np.array([*of_thing, 0])[owner]
    return Labels(owner, classes, np.concatenate(grounds), places[owner], np.concatenate(sides))


def looks(scene: Scene, command: str, labels: Labels, rule: Judgement) -> ndarray:
    """Patches that decide the plan, (2, P): what lies ahead, then what the side views add; empty for nothing."""
    front = np.zeros(N_PATCHES, bool)
    front[GRID * GRID : 2 * GRID * GRID] = True
    line, zebra = labels.ground[:, GROUND.index("line")] & front, labels.ground[:, GROUND.index("zebra")] & front
    first, second = np.zeros(N_PATCHES, bool), np.zeros(N_PATCHES, bool)
    if scene.kind in ("lead", "blocked"):
        first = labels.owner == 0
    elif scene.light is not None and command == "straight":
        first = (labels.owner == len(scene.agents)) | line
    elif scene.junction is not None:
        first = line if scene.light != "red" else line | (labels.owner == len(scene.agents))
    elif scene.zebra is not None:
        first = zebra
    else:
        first = front & (labels.ground[:, GROUND.index("road")]) & (abs(np.nan_to_num(labels.side, nan=9)) < 0.3)
    if scene.kind == "crossing" and rule.stop is not None:
        second = labels.owner == 0
    elif scene.kind == "blocked" and rule.stop is not None:
        second = labels.owner == 1
    elif command != "straight" and scene.light != "red" and walker(scene, command) is not None:
        second = labels.owner == scene.agents.index(walker(scene, command))
    return np.stack([first, second])


def _class_of(scene: Scene, i: int) -> int:
    if i == len(scene.agents):
        return CLASSES.index(str(scene.light))
    agent = scene.agents[i]
    return CLASSES.index("standing car" if agent.kind == "car" and agent.v_ahead == 0 else agent.kind)


def _patches(fine: ndarray) -> ndarray:
    """Mean over the fine pixels of each patch, row-major."""
    return np.asarray(fine.reshape(GRID, PATCH * FINE, GRID, PATCH * FINE).mean((1, 3)).ravel())


def _owner(fine: ndarray, n_things: int) -> ndarray:
    cover = np.stack([_patches(fine == i) for i in range(n_things)] + [np.full(GRID * GRID, LEAST_OBJECT)])
    winner = cover.argmax(0)
    return np.where(winner == n_things, -1, winner)


def _ground(seen: dict[str, ndarray], view: str) -> tuple[ndarray, ndarray]:
    x, _, below = sight(view)
    flags = np.stack([_patches(seen[name] & below) > LEAST_GROUND for name in GROUND], -1)
    near = below & (x < 30)
    share = _patches(near)
    side = _patches(np.where(near, np.clip(seen["side"], -10, 10), 0)) / np.maximum(share, 1e-6)
    return flags, np.where(share > 0.5, side / 5, np.nan)
