"""The highway course: what it asks, and that it learns from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from seeing import first_losses

from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.testbed.build import build_untrained
from autoprune_lab.testbed.highway.simulator import missing

if missing() is not None:
    pytest.skip(str(missing()), allow_module_level=True)

from autoprune_lab.testbed.highway import losses
from autoprune_lab.testbed.highway.course import COURSE, tally
from autoprune_lab.testbed.highway.expert import ACTIONS, decide
from autoprune_lab.testbed.highway.layout import layout, vocabulary
from autoprune_lab.testbed.highway.lessons import QUESTIONS, Lessons, make_lesson, mirrored, moments, scattered
from autoprune_lab.testbed.highway.scene import LANES, WIDTH
from autoprune_lab.testbed.training import run
from autoprune_lab.testbed.training.batches import collate
from autoprune_lab.testbed.training.reader import read


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    rng = np.random.default_rng(3)
    return collate([make_lesson(rng) for _ in range(4)])


def test_an_answer_is_the_experts_and_only_it_is_learned(lessons):
    words = vocabulary()
    for scene, q in ((0, 0), (2, 5)):
        asked = [words[int(t)] for t in lessons.tokens[scene, q] if t]
        learned = [words[int(t)] for t in lessons.targets[scene, q] if t >= 0]
        assert learned == [ACTIONS[int(lessons.action[scene, q])], "</s>"]
        assert asked[int(lessons.rows[scene, q, 0])] == "ASSISTANT:"
    assert lessons.worth.argmax(-1)[lessons.worth.amax(-1) > 0].tolist() == pytest.approx(
        lessons.action[lessons.worth.amax(-1) > 0].tolist()
    )
    torch.testing.assert_close(lessons.look.sum(-1), torch.ones(4, 2))


def test_moments_of_a_ride_and_those_made_up_leave_the_ego_car_its_place():
    rng = np.random.default_rng(1)
    for moment in (*moments(rng)[:3], *(scattered(rng) for _ in range(50))):
        assert all(abs(car.ahead) > 5 or abs(car.left) > WIDTH for car in moment.cars)


def test_a_mirrored_moment_is_decided_the_other_way_round():
    rng, other = np.random.default_rng(2), {"LANE_LEFT": "LANE_RIGHT", "LANE_RIGHT": "LANE_LEFT"}
    met = [scattered(rng) for _ in range(200)]
    turned = [mirrored(moment) for moment in met]
    assert [one.lane for one in turned] == [LANES - 1 - moment.lane for moment in met]
    same = [other.get(decide(one), decide(one)) == decide(moment) for one, moment in zip(turned, met, strict=True)]
    assert np.mean(same) > 0.95  # of two lanes that are as good the left one is taken


def test_the_tally_counts_by_wanted_action(lessons):
    model = build_untrained(layout(), 0)
    with torch.no_grad():
        reading = read(model, lessons, losses.WATCHED)
    perfect = torch.nn.functional.one_hot(reading.targets, len(vocabulary())).float()
    right, asked = tally(replace(reading, logits=perfect), lessons)
    assert right.tolist() == asked.tolist()
    assert asked.sum() == 4 * QUESTIONS


def test_a_few_steps_learn_to_see(lessons):
    values = first_losses(COURSE, replace(layout(), n_layers=1), lessons, 25)
    assert values[-1] < values[0] / 2


def test_the_course_runs_from_start_to_a_loadable_checkpoint(tmp_path):
    small = replace(layout(), n_layers=9, hidden=32)
    course = replace(COURSE, layout=small, batch=1, vision_batch=1, vision_steps=2)
    run.train(course, tmp_path, seed=1, steps=2)
    assert load_model(str(tmp_path)).model.config.text_config.hidden_size == 32
