"""Questions about a scene: eight kinds that need one, two or three looks at the picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune_lab.testbed.shapes.scene import COLOURS, IMAGE_SIZE, SHAPES, Scene, Thing
from autoprune_lab.testbed.shapes.wording import COUNTS, QUADRANTS, SIDES, TEMPLATES, YES_NO


@dataclass(frozen=True)
class Noun:
    """A phrase that names things: the index of its last word, and the things."""

    word: int
    things: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """One question, its answer, and where a reader would look (used in training only)."""

    kind: str
    text: str
    answer: str
    nouns: tuple[Noun, ...] = ()
    hops: tuple[int, ...] = ()  # things to look at after the named one: B, then C


def ask(scene: Scene, kind: str, rng: np.random.Generator, answer: str | None = None) -> Question | None:
    """One question of `kind`; None when the scene allows none with the wanted `answer`."""
    options = [case for case in _CASES[kind](scene) if answer is None or case[0] == answer]
    if not options:
        return None
    found, slots, things, hops = choose(options, rng, evenly=kind in ("attribute", "count") and answer is None)
    template = TEMPLATES[kind][int(rng.integers(len(TEMPLATES[kind])))]
    text, nouns = fill(template, slots, things)
    return Question(kind, text, found, nouns, hops)


# An answer, the words of each slot, the things of each slot that names some, and the hops.
Case = tuple[str, dict[str, str], dict[str, tuple[int, ...]], tuple[int, ...]]


def choose(options: Sequence[Case], rng: np.random.Generator, evenly: bool) -> Case:
    """One of them; `evenly`: every answer is as likely, not every case."""
    if evenly:
        wanted = sorted({case[0] for case in options})
        choice = wanted[int(rng.integers(len(wanted)))]
        options = [case for case in options if case[0] == choice]
    return options[int(rng.integers(len(options)))]


def fill(template: str, slots: dict[str, str], things: dict[str, tuple[int, ...]]) -> tuple[str, tuple[Noun, ...]]:
    """The template's text with its slots filled, and where in it things are named."""
    words: list[str] = []
    nouns: list[Noun] = []
    for word in template.split():
        slot = word.strip("{}") if word.startswith("{") else None
        words += slots[slot].split() if slot else [word]
        if slot in things:
            nouns.append(Noun(len(words) - 1, things[slot]))
    return " ".join(words), tuple(nouns)


def phrase(thing: Thing) -> str:
    """Names it by colour and shape."""
    return f"{thing.colour} {thing.shape}"


def _exist(scene: Scene) -> Iterator[Case]:
    present = {(t.shape, t.colour): i for i, t in enumerate(scene.things)}
    shapes = {t.shape for t in scene.things}
    colours = {t.colour for t in scene.things}
    for shape in SHAPES:
        for colour in COLOURS:
            thing = present.get((shape, colour))
            if thing is not None:
                yield "yes", {"a": f"{colour} {shape}"}, {"a": (thing,)}, ()
            elif shape in shapes and colour in colours:  # both parts are there, but not together
                yield "no", {"a": f"{colour} {shape}"}, {"a": ()}, ()


def _attribute(scene: Scene) -> Iterator[Case]:
    for i, thing in enumerate(scene.things):
        yield thing.size, {"of": "size", "a": phrase(thing)}, {"a": (i,)}, ()
        if _alone(scene, i, "shape"):
            yield thing.colour, {"of": "colour", "a": thing.shape}, {"a": (i,)}, ()
        if _alone(scene, i, "colour"):
            yield thing.shape, {"of": "shape", "a": f"{thing.colour} thing"}, {"a": (i,)}, ()


def _where(scene: Scene) -> Iterator[Case]:
    for i, thing in enumerate(scene.things):
        x, y = thing.centre
        quadrant = QUADRANTS[2 * (y > IMAGE_SIZE / 2) + (x > IMAGE_SIZE / 2)]
        yield quadrant, {"a": phrase(thing)}, {"a": (i,)}, ()


def _count(scene: Scene) -> Iterator[Case]:
    for attribute, values in (("colour", COLOURS), ("shape", SHAPES)):
        for value in values:
            found = tuple(i for i, t in enumerate(scene.things) if t.get(attribute) == value)
            if len(found) < len(COUNTS):
                name = f"{value} things" if attribute == "colour" else f"{value} shapes"
                yield str(len(found)), {"a": name}, {"a": found}, ()


def _relation(scene: Scene) -> Iterator[Case]:
    for i, a in enumerate(scene.things):
        for j, b in enumerate(scene.things):
            dx, dy = (q - p for p, q in zip(a.centre, b.centre, strict=True))
            for side, gap in zip(SIDES, (dx, -dx, dy, -dy), strict=True):
                if i != j and abs(gap) >= 14:
                    slots = {"a": phrase(a), "b": phrase(b), "side": side}
                    yield YES_NO[gap < 0], slots, {"a": (i,), "b": (j,)}, ()


def _same(scene: Scene) -> Iterator[Case]:
    slots = {"of": scene.clue, "link": scene.link, "a": _clue_phrase(scene)}
    yield scene.things[1].get(scene.clue), slots, {"a": (0,)}, (1,)


def _chain(scene: Scene) -> Iterator[Case]:
    slots = {"of": scene.link, "link": scene.link, "clue": scene.clue, "a": _clue_phrase(scene)}
    yield scene.things[2].get(scene.link), slots, {"a": (0,)}, (1, 2)


def _read(scene: Scene) -> Iterator[Case]:
    yield scene.number, {}, {}, ()


def _clue_phrase(scene: Scene) -> str:
    first = scene.things[0]
    return f"{first.colour} thing" if scene.clue == "colour" else first.shape


def _alone(scene: Scene, i: int, attribute: str) -> bool:
    value = scene.things[i].get(attribute)
    return sum(thing.get(attribute) == value for thing in scene.things) == 1


_CASES = {
    "exist": _exist,
    "attribute": _attribute,
    "where": _where,
    "count": _count,
    "relation": _relation,
    "same": _same,
    "read": _read,
    "chain": _chain,
}
