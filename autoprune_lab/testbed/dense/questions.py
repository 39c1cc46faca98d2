"""Questions about a scene of the `dense` world: ten kinds, whose needs differ in depth and in tokens."""

from collections.abc import Iterator

import numpy as np

from autoprune_lab.testbed.dense.scene import COLOURS, SHAPES, Scene
from autoprune_lab.testbed.dense.wording import ANSWERS, LONGEST, OPENERS, SHORTEST, TEMPLATES, TRAILS
from autoprune_lab.testbed.shapes.questions import Case, Question, choose, fill, phrase
from autoprune_lab.testbed.shapes.wording import QUADRANTS, SIDES, YES_NO

CLEAR = 14  # pixels by which a thing must lie left of another to be called so


def ask(scene: Scene, kind: str, rng: np.random.Generator, answer: str | None = None) -> Question | None:
    """One question of `kind`; None when the scene allows none, or none with the wanted `answer`."""
    options = [case for case in _cases(scene, kind) if answer in (None, case[0])]
    if not options:
        return None
    found, slots, things, hops = choose(options, rng, evenly=answer is None)
    template = TEMPLATES[kind][int(rng.integers(len(TEMPLATES[kind])))]
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    bare, _ = fill(template, slots, things)
    n_openers = length - len(bare.split())
    openers = " ".join(OPENERS[len(OPENERS) - n_openers :]) if n_openers else ""
    text, nouns = fill(f"{openers} {template}", slots, things)
    return Question(kind, text, found, nouns, hops)


def _cases(scene: Scene, kind: str) -> Iterator[Case]:
    if kind in TRAILS:
        return _trail(scene, TRAILS.index(kind))
    if kind in ("few", "many"):
        return (case for case in _count(scene) if case[0] in ANSWERS[kind])
    return {"exist": _exist, "where": _where, "relation": _relation, "read": _read}[kind](scene)


def _exist(scene: Scene) -> Iterator[Case]:
    shapes = {t.shape for t in scene.things}
    colours = {t.colour for t in scene.things}
    for shape in SHAPES:
        for colour in COLOURS:
            found = tuple(i for i, t in enumerate(scene.things) if (t.shape, t.colour) == (shape, colour))
            if found or (shape in shapes and colour in colours):  # both parts are there, but perhaps not together
                yield YES_NO[not found], {"a": f"{colour} {shape}"}, {"a": found}, ()


def _where(scene: Scene) -> Iterator[Case]:
    for i in _alone(scene):
        thing = scene.things[i]
        if not thing.framed and thing.corner is not None:
            yield QUADRANTS[thing.corner], {"a": phrase(thing)}, {"a": (i,)}, ()


def _count(scene: Scene) -> Iterator[Case]:
    for attribute, values, noun in (("colour", COLOURS, "things"), ("shape", SHAPES, "shapes")):
        for value in values:
            found = tuple(i for i, t in enumerate(scene.things) if t.get(attribute) == value)
            yield str(len(found)), {"a": f"{value} {noun}"}, {"a": found}, ()


def _relation(scene: Scene) -> Iterator[Case]:
    alone = [(i, scene.things[i]) for i in _alone(scene)]
    for i, a in alone:
        for j, b in alone:
            dx, dy = (q - p for p, q in zip(a.centre, b.centre, strict=True))
            for side, gap in zip(SIDES, (dx, -dx, dy, -dy), strict=True):
                if i != j and abs(gap) >= CLEAR:
                    slots = {"a": phrase(a), "b": phrase(b), "side": side}
                    yield YES_NO[gap < 0], slots, {"a": (i,), "b": (j,)}, ()


def _trail(scene: Scene, n_hops: int) -> Iterator[Case]:
    for i, thing in enumerate(scene.things):
        trail = scene.trail(i) if thing.framed else ()
        corner = scene.things[trail[-1]].corner if trail else None
        if len(trail) == n_hops + 1 and corner is not None:
            yield QUADRANTS[corner], {"a": phrase(thing)}, {"a": (i,)}, trail[1:]


def _read(scene: Scene) -> Iterator[Case]:
    yield scene.number, {}, {}, ()


def _alone(scene: Scene) -> list[int]:
    """Things whose phrase names no other one."""
    kinds = [(t.shape, t.colour) for t in scene.things]
    return [i for i, kind in enumerate(kinds) if kinds.count(kind) == 1]
