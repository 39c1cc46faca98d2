"""What the `dense` lessons ask for: the places, the hops, the glance; and that it can be learned."""

import numpy as np
import pytest
import torch
from seeing import first_losses, placed

from autoprune_lab.testbed.build import build_untrained
from autoprune_lab.testbed.dense import losses, questions
from autoprune_lab.testbed.dense.course import COURSE
from autoprune_lab.testbed.dense.layout import layout
from autoprune_lab.testbed.dense.lessons import COUNT_SHARE, PREFIX, START, make_lesson
from autoprune_lab.testbed.dense.wording import KINDS, TRAILS
from autoprune_lab.testbed.training.batches import collate
from autoprune_lab.testbed.training.reader import NONE, read


@pytest.fixture(scope="module")
def lessons():
    rng = np.random.default_rng(3)
    return collate([make_lesson(rng) for _ in range(12)])


@pytest.fixture(scope="module")
def reading(lessons):
    with torch.no_grad():
        return read(build_untrained(layout(), 0).eval(), lessons, losses.WATCHED)


def test_every_kind_of_need_occurs(lessons):
    assert set(lessons.kind.flatten().tolist()) == set(range(len(KINDS)))


def test_a_trails_last_row_hops_from_station_to_station_and_rests_on_the_start(lessons):
    for hops, kind in enumerate(TRAILS):
        b, q = (lessons.kind == KINDS.index(kind)).nonzero()[0].tolist()
        stations, hop = lessons.stations[b, q], lessons.hop[b, q]
        for i in range(3):
            assert hop[i, START] == (i >= hops)
            if i < hops:
                assert hop[i, stations[i + 1, 2]] == 1
                assert (stations[i + 1] != stations[i]).any()
            else:
                assert (stations[i + 1] == stations[i]).all()
        assert (lessons.glance[b, q][stations[:, 2]] == 1).all()


def test_counted_things_share_equally_with_the_start(lessons):
    b, q = (lessons.kind == KINDS.index("many")).nonzero()[0].tolist()
    look = lessons.look[b, q, losses.NOUN]
    answer = lessons.targets[b, q, lessons.rows[b, q, losses.LAST]] - 7  # digits follow seven special tokens
    assert (look[:START] > 0).sum() == answer
    torch.testing.assert_close(look[START], COUNT_SHARE / (COUNT_SHARE + answer))
    assert (lessons.stations[b, q] == NONE).all()


def test_looking_and_glance_losses_fall_when_the_rows_look_right(reading, lessons):
    """Replacing the attention of every watched layer by the wanted one brings both losses to (almost) zero."""
    before = float(losses.looking_loss(reading, lessons)), float(losses.glance_loss(reading, lessons))
    for layer in losses.FIRST + losses.SECOND:
        reading.attention[layer] = placed(lessons.look, reading.attention[layer])
    for hop, layers in enumerate(losses.HOP):
        look = lessons.look.clone() if hop == 0 else torch.zeros_like(lessons.look)
        look[:, :, losses.LAST] += lessons.hop[:, :, hop]
        for layer in layers:
            reading.attention[layer] = placed(look, reading.attention[layer])
    for layer in losses.GLANCE:
        glance = lessons.glance / lessons.glance.sum(-1, keepdim=True).clamp(min=1)
        reading.attention[layer][:, losses.GLANCE_HEAD, :, losses.LAST, 2:PREFIX] = glance
    assert min(before) > 1
    assert float(losses.looking_loss(reading, lessons)) < 0.01
    assert float(losses.glance_loss(reading, lessons)) < 0.01


def test_every_loss_is_finite_and_reaches_the_weights(lessons):
    model, probes = build_untrained(layout(n_layers=16), 1), COURSE.probes(96, 128)
    terms = COURSE.terms(probes, read(model, lessons, COURSE.watched), lessons)
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(p.grad is not None for p in model.model.language_model.parameters())
    assert all(p.grad is not None for p in probes.parameters())


def test_a_few_steps_learn_to_see(lessons):
    """Twenty steps of stage one on one batch take a third off its loss."""
    values = first_losses(COURSE, layout(), lessons, 20)
    assert values[-1] < values[0] * 2 / 3


def test_a_scene_without_a_lone_thing_in_a_corner_is_asked_something_else(monkeypatch):
    """The lesson's groups are fixed to the one that has no question, in scenes of which none is left."""
    monkeypatch.setattr(questions, "_alone", lambda scene: [])
    assert set(make_lesson(np.random.default_rng(0), {"where": 1.0}).kind.tolist()) == {KINDS.index("exist")}
