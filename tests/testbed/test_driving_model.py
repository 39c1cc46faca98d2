"""The shipped driving model: small, loadable like any LLaVA, able, and in need of its views."""

from functools import partial

import pytest
from transformers import LlavaForConditionalGeneration

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM, check_checkpoint, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.tasks.driving import DrivingTask
from policies.fixed import FixedPolicy


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("embedded:driving-s0")


@pytest.fixture(scope="module")
def prepared(vlm: VLM):
    return prepare(vlm, DrivingTask("report", 15))


def test_it_is_a_stock_llava_of_at_most_8_mb_that_sees_three_views(vlm: VLM, prepared):
    folder = check_checkpoint("embedded:driving-s0")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    assert type(vlm.model) is LlavaForConditionalGeneration
    assert {geometry.n_vision for geometry in prepared.geometries} == {3 * 64}


def test_it_drives(vlm: VLM, prepared):
    """Figures on twenty times the samples stand in docs/driving.md; these leave room for chance."""
    records = evaluate(vlm, prepared)
    found = prepared.task.summary(records.rows)
    assert found["unreadable"] == 0
    assert found["action_accuracy"] > 0.92
    assert found["l2_avg"] < 0.35
    assert found["collision_rate"] < 0.04


def test_it_needs_its_pictures(vlm: VLM, prepared):
    blind = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0))
    assert prepared.task.summary(blind.rows)["l2_avg"] > 2
    assert evaluate(vlm, prepared).score - blind.score > 0.3


def test_some_scenes_need_the_side_views(vlm: VLM, prepared):
    """With the front view alone from layer 2 on, the other lane and the arm of the junction are not looked at."""
    front = Pruner(FixedPolicy(layer=2, keep=1 / 3), scorer=partial(per_view, shares=(0.0, 1.0, 0.0)))
    whole, narrow = evaluate(vlm, prepared).by_kind(), evaluate(vlm, prepared, front).by_kind()
    assert whole["blocked"] - narrow["blocked"] > 0.2
    assert abs(whole["lead"] - narrow["lead"]) < 0.1
