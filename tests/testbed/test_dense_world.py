"""The `dense` world: crowded scenes, trails, questions alike in length, splits."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from autoprune_lab.tasks.dense import DenseTask
from autoprune_lab.testbed.dense.draw import draw, patch_things
from autoprune_lab.testbed.dense.layout import vocabulary
from autoprune_lab.testbed.dense.questions import ask
from autoprune_lab.testbed.dense.scene import GRID, HOPS, IMAGE_SIZE, MARGIN, PIXELS, Scene, make_scene
from autoprune_lab.testbed.dense.wording import ANSWERS, CHANCE, KINDS, LONGEST, SHORTEST, TRAILS

SCENES = [make_scene(np.random.default_rng(seed)) for seed in range(120)]


def test_a_seed_makes_one_scene_and_one_picture():
    first, again = (make_scene(np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert (draw(first) == draw(again)).all()
    assert first != make_scene(np.random.default_rng(6))


@pytest.mark.parametrize("hops", range(HOPS + 1))
def test_the_trail_has_so_many_hops_and_its_stations_lie_in_as_many_corners(hops: int):
    for seed in range(30):
        scene = make_scene(np.random.default_rng(seed), hops)
        assert scene.trail(0) == tuple(range(hops + 1))
        assert len({scene.things[i].corner for i in scene.trail(0)} - {None}) == hops + 1
        framed = [thing for thing in scene.things if thing.framed]
        assert len(framed) - hops in (1, 2)
        for i, (here, there) in enumerate(pairwise(framed[: hops + 1])):
            shared = ("shape", "colour")[i % 2]
            assert [t for t in framed if t.get(shared) == here.get(shared)] == [here, there]


def test_things_do_not_overlap_and_lie_inside():
    for scene in SCENES:
        page = np.zeros((IMAGE_SIZE, IMAGE_SIZE), int)
        for thing in scene.things:
            room = MARGIN if thing.framed else 0
            n = PIXELS[thing.size] + 2 * room
            assert min(thing.top, thing.left) - room >= 0
            assert max(thing.top, thing.left) - room + n <= IMAGE_SIZE
            page[thing.top - room : thing.top - room + n, thing.left - room : thing.left - room + n] += 1
        width = 8 * (len(scene.number) - 1) + 5
        page[scene.number_top : scene.number_top + 7, scene.number_left : scene.number_left + width] += 1
        assert page.max() == 1
        assert 20 <= len(scene.things) <= 24


def test_patch_labels_point_at_the_thing_and_frames_are_drawn():
    for scene in SCENES[:30]:
        owner, picture = patch_things(scene), draw(scene).astype(int)
        assert owner.shape == (GRID * GRID,)
        for i, thing in enumerate(scene.things):
            rows, columns = np.divmod(np.flatnonzero(owner == i), GRID)
            assert abs(rows.mean() * 8 + 4 - thing.centre[1]) < 6
            assert abs(columns.mean() * 8 + 4 - thing.centre[0]) < 6
            if thing.framed:
                n = PIXELS[thing.size] + 2 * MARGIN
                top = picture[thing.top - MARGIN, thing.left - MARGIN : thing.left - MARGIN + n]
                assert (top == 235).all()


def _solve(scene: Scene, text: str, kind: str) -> str:
    """Answers by scanning the words, written apart from the generator."""
    words = set(text.split())
    shapes = words & {t.shape for t in scene.things}
    colours = words & {t.colour for t in scene.things}
    fits = [t for t in scene.things if {t.shape} >= shapes and {t.colour} >= colours]
    if kind == "exist":
        return "yes" if fits else "no"
    if kind in ("few", "many"):
        return str(len(fits) if shapes or colours else 0)
    (thing,) = fits
    framed = [t for t in scene.things if t.framed]
    hops = 0
    while kind in TRAILS:
        shared = "colour" if hops % 2 else "shape"
        partner = [t for t in framed if t is not thing and t.get(shared) == thing.get(shared)]
        if not partner:
            assert hops == TRAILS.index(kind)
            break
        (thing,) = partner
        hops += 1
    x, y = thing.centre
    return ("upper" if y < IMAGE_SIZE / 2 else "lower") + ("-left" if x < IMAGE_SIZE / 2 else "-right")


@pytest.mark.parametrize("kind", ["exist", "where", "few", "many", *TRAILS])
def test_answers_agree_with_an_independent_reader(kind: str):
    rng = np.random.default_rng(0)
    asked = 0
    for scene in SCENES:
        question = ask(scene, kind, rng)
        if question is not None:
            assert _solve(scene, question.text, kind) == question.answer
            asked += 1
    assert asked > 20


def test_neither_length_nor_words_tell_a_trails_hops_or_a_count():
    """Every kind has every length about as often, and what shares a need's name but for its size shares its words."""
    samples = DenseTask("report", 60).samples()
    lengths = {kind: Counter(len(s.question.split()) for s in samples if s.kind == kind) for kind in KINDS}
    for found in lengths.values():
        assert set(found) == set(range(SHORTEST, LONGEST + 1))
        assert max(found.values()) < 25  # of 60, where 10 is the mean
    things = {word for scene in SCENES for thing in scene.things for word in (thing.shape, thing.colour)}
    words = {
        kind: {w for s in samples if s.kind == kind for w in s.question.split() if w not in things} for kind in KINDS
    }
    assert words["trail0"] == words["trail1"] == words["trail2"] == words["trail3"]
    assert words["few"] == words["many"]


def test_every_word_is_in_the_vocabulary():
    known = set(vocabulary())
    for sample in DenseTask("tune", 6).samples():
        digits = sample.kind in ("read", "few", "many")
        answer = list(sample.answers[0]) if digits else [sample.answers[0]]
        assert {*sample.question.split(), *answer} <= known


def test_answers_are_balanced_and_chance_is_what_they_give():
    samples = DenseTask("report", 20).samples()
    for kind, answers in ANSWERS.items():
        counts = Counter(s.answers[0] for s in samples if s.kind == kind)
        if answers:
            assert counts == dict.fromkeys(answers, 20 // len(answers))
            assert CHANCE[kind] == 1 / len(answers)


def test_splits_are_disjoint_and_a_longer_split_begins_like_a_shorter_one():
    tune, report = DenseTask("tune", 3).samples(), DenseTask("report", 3).samples()
    pictures = {s.images[0].tobytes() for s in tune}
    assert not pictures & {s.images[0].tobytes() for s in report}
    longer = {s.id: s.question for s in DenseTask("tune", 5).samples()}
    assert all(longer[s.id] == s.question for s in tune)


@pytest.mark.parametrize(("field", "value"), [("split", "test"), ("per_kind", 0), ("per_kind", -3)])
def test_bad_fields_are_named(field: str, value: object):
    with pytest.raises(ValueError, match=field):
        DenseTask(**{field: value})
