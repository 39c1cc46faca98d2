"""Pictures of the embedded worlds are drawn when they are looked at, and only the last ones are kept."""

import numpy as np
import pytest
from PIL import Image

from autoprune_lab.evaluation.prompts import extremes
from autoprune_lab.models.checkpoint import check_checkpoint, load_processor
from autoprune_lab.tasks import dense, drawn, driving, shapes
from autoprune_lab.tasks.pictures import Drawings, sizes
from autoprune_lab.testbed.driving.scene import KINDS

WORLDS = {"shapes": (shapes, 8, 1), "dense": (dense, 10, 1), "driving": (driving, len(KINDS), 3)}


@pytest.fixture(params=WORLDS)
def world(request, monkeypatch):
    """The task of four samples a kind, how many samples and pictures each, and what has been drawn."""
    module, n_kinds, n_pictures = WORLDS[request.param]
    drawn, draw = [], module.draw
    monkeypatch.setattr(module, "draw", lambda scene: drawn.append(scene) or draw(scene))
    for cached in (module._sample, module._pictures):
        cached.cache_clear()
    task = {"shapes": "ShapesTask", "dense": "DenseTask", "driving": "DrivingTask"}[request.param]
    return getattr(module, task)("report", 4), 4 * n_kinds, n_pictures, drawn


def test_samples_and_sizes_draw_nothing_and_a_picture_is_drawn_once(world):
    task, n_samples, n_pictures, drawn = world
    samples = task.samples()
    told = [sizes(sample.images) for sample in samples]
    assert len(samples) == n_samples
    assert {len(sample.images) for sample in samples} == {n_pictures}
    assert extremes(samples)
    assert not drawn
    for sample, known in zip(samples, told, strict=True):
        assert tuple(picture.size for picture in sample.images) == known
        assert sample.images[-1] is sample.images[:][-1]
    assert len(drawn) == n_samples


def test_a_picture_that_is_drawn_again_is_the_same():
    (sample, *_) = shapes.ShapesTask("tune", 1).samples()
    (before,) = sample.images
    shapes._pictures.cache_clear()
    shapes._scene.cache_clear()
    (again,) = sample.images
    assert again is not before
    np.testing.assert_array_equal(again, before)


def test_the_extremes_of_drawn_samples_have_every_length_that_a_prompt_has():
    samples = shapes.ShapesTask("tune", 10).samples()
    tokenizer = load_processor(check_checkpoint("embedded:shapes-s0")).tokenizer
    few = extremes(samples)
    assert len(few) < 30

    def lengths(some):
        return {len(ids) for ids in tokenizer([sample.question for sample in some])["input_ids"]}

    assert lengths(few) == lengths(samples)


def test_drawings_are_a_sequence_of_pictures():
    both = Drawings(lambda: (Image.new("RGB", (3, 2)), Image.new("RGB", (5, 4))), ((3, 2), (5, 4)))
    assert [picture.size for picture in both] == [(3, 2), (5, 4)]
    assert both[1].size == (5, 4)
    assert len(both[:1]) == 1


def test_samples_are_made_when_they_are_asked_for_and_are_a_sequence(monkeypatch):
    made = []
    samples = drawn.Seeded(
        lambda kind, i: made.append((kind, i)) or shapes._sample("tune", kind, i), ("exist", "read"), 3
    )
    assert len(samples) == 6
    assert samples[4].id == samples[-2].id == "tune-read-1"
    assert made == [("read", 1)] * 2
    assert [sample.id for sample in samples[1:4]] == ["tune-exist-1", "tune-exist-2", "tune-read-0"]
    assert list(samples) == list(samples[:])
    with pytest.raises(IndexError):
        samples[6]
    assert drawn.spread(samples) is samples
    monkeypatch.setattr(drawn, "TOGETHER", 4)
    made.clear()
    assert [sample.id for sample in drawn.spread(samples)] == [samples[i].id for i in (0, 1, 3, 4)]
    assert drawn.spread(samples[:]) == samples[:]  # all are there already
