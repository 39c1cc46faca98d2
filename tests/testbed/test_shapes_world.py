"""The `shapes` world: scenes, pictures, questions, splits."""

from collections import Counter

import numpy as np
import pytest

from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.shapes.draw import draw, patch_things
from autoprune_lab.testbed.shapes.layout import vocabulary
from autoprune_lab.testbed.shapes.questions import ask
from autoprune_lab.testbed.shapes.scene import GRID, IMAGE_SIZE, PIXELS, Scene, make_scene
from autoprune_lab.testbed.shapes.wording import ANSWERS, CHANCE, KINDS

SCENES = [make_scene(np.random.default_rng(seed)) for seed in range(150)]


def test_a_seed_makes_one_scene_and_one_picture():
    first, again = (make_scene(np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert (draw(first) == draw(again)).all()
    assert first != make_scene(np.random.default_rng(6))


@pytest.mark.parametrize("scene", SCENES[:40], ids=lambda scene: scene.number)
def test_the_chain_has_one_solution(scene: Scene):
    a, b, c = scene.things[:3]
    assert [t for t in scene.things if t.get(scene.clue) == a.get(scene.clue)] == [a]
    assert {t for t in scene.things if t.get(scene.link) == a.get(scene.link)} == {a, b}
    assert {t for t in scene.things if t.get(scene.clue) == b.get(scene.clue)} == {b, c}


def test_things_do_not_overlap_and_lie_inside():
    for scene in SCENES:
        page = np.zeros((IMAGE_SIZE, IMAGE_SIZE), int)
        for thing in scene.things:
            n = PIXELS[thing.size]
            page[thing.top : thing.top + n, thing.left : thing.left + n] += 1
            assert thing.top >= 0 <= thing.left
            assert max(thing.top, thing.left) + n <= IMAGE_SIZE
        width = 8 * (len(scene.number) - 1) + 5
        page[scene.number_top : scene.number_top + 7, scene.number_left : scene.number_left + width] += 1
        assert page.max() == 1
        assert 6 <= len(scene.things) <= 10


def test_patch_labels_point_at_the_thing():
    for scene in SCENES[:30]:
        owner = patch_things(scene)
        assert owner.shape == (GRID * GRID,)
        for i, thing in enumerate(scene.things):
            rows, columns = np.divmod(np.flatnonzero(owner == i), GRID)
            assert abs(rows.mean() * 8 + 4 - thing.centre[1]) < 6
            assert abs(columns.mean() * 8 + 4 - thing.centre[0]) < 6


def test_colours_can_be_seen():
    """The centre pixel of a thing differs from the background's by far more than the grain."""
    scene = SCENES[0]
    picture = draw(scene).astype(int)
    for thing in scene.things:
        x, y = (int(v) for v in thing.centre)
        assert np.ptp(picture[y, x]) > 60


def _solve(scene: Scene, text: str, kind: str) -> str:
    """Answers by scanning the words, written apart from the generator."""
    words = text.replace(",", " ").split()
    shapes = {"circle", "square", "triangle", "diamond", "cross"} & set(words)
    colours = {"red", "green", "blue", "yellow", "purple", "cyan"} & set(words)
    fits = [t for t in scene.things if {t.shape} >= shapes and {t.colour} >= colours]
    if kind == "exist":
        return "yes" if fits else "no"
    if kind == "count":
        return str(len(fits))
    (thing,) = fits
    (asked,) = {"colour", "shape", "size"} & set(words)
    return thing.get(asked)


@pytest.mark.parametrize("kind", ["exist", "count", "attribute"])
def test_answers_agree_with_an_independent_reader(kind: str):
    rng = np.random.default_rng(0)
    for scene in SCENES:
        question = ask(scene, kind, rng)
        assert question is not None
        assert _solve(scene, question.text, kind) == question.answer


def test_nouns_name_their_things():
    rng = np.random.default_rng(1)
    for scene in SCENES:
        for kind in KINDS:
            question = ask(scene, kind, rng)
            assert question is not None
            words = question.text.split()
            for noun in question.nouns:
                for i in noun.things:
                    thing = scene.things[i]
                    assert {words[noun.word], words[noun.word - 1]} & {thing.shape, thing.colour}


def test_every_word_is_in_the_vocabulary():
    known = set(vocabulary())
    for sample in ShapesTask("tune", 6).samples():
        digits = sample.kind in ("read", "count")
        answer = list(sample.answers[0]) if digits else [sample.answers[0]]
        assert {*sample.question.split(), *answer} <= known


def test_answers_are_balanced_and_chance_is_what_they_give():
    samples = ShapesTask("report", 26).samples()
    for kind, answers in ANSWERS.items():
        counts = Counter(s.answers[0] for s in samples if s.kind == kind)
        if answers:
            assert set(counts) == set(answers)
            assert max(counts.values()) - min(counts.values()) <= 1
        if kind not in ("attribute", "same", "chain", "read"):
            assert max(counts.values()) / 26 == pytest.approx(CHANCE[kind], abs=0.04)


def test_splits_are_disjoint_and_a_longer_split_begins_like_a_shorter_one():
    tune, report = ShapesTask("tune", 4).samples(), ShapesTask("report", 4).samples()
    pictures = {s.images[0].tobytes() for s in tune}
    assert not pictures & {s.images[0].tobytes() for s in report}
    longer = {s.id: s.question for s in ShapesTask("tune", 6).samples()}
    assert all(longer[s.id] == s.question for s in tune)


@pytest.mark.parametrize(("field", "value"), [("split", "test"), ("per_kind", 0), ("per_kind", -3)])
def test_bad_fields_are_named(field: str, value: object):
    with pytest.raises(ValueError, match=field):
        ShapesTask(**{field: value})


def test_score_ignores_spaces_between_digits():
    task = ShapesTask()
    sample = next(s for s in ShapesTask("tune", 1).samples() if s.kind == "read")
    number = sample.answers[0]
    assert task.score(" ".join(number), sample) == 1
    assert task.score(number[::-1] + "7", sample) == 0
