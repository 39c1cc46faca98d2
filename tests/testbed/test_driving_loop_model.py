"""The shipped model that learned from drives: it drives, and without its pictures it does not."""

import pytest

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM, check_checkpoint, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask
from policies.fixed import FixedPolicy


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("embedded:driving-loop-s0")


@pytest.fixture(scope="module")
def prepared(vlm: VLM):
    return prepare(vlm, DrivingClosedLoopTask("report", 1), 6)


def test_it_drives_and_needs_its_pictures(vlm: VLM, prepared):
    """Figures on ten times the drives stand in docs/driving.md; these leave room for chance."""
    folder = check_checkpoint("embedded:driving-loop-s0")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    seeing = evaluate(vlm, prepared)
    blind = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0))
    assert prepared.task.summary(seeing.rows)["unreadable"] == 0
    assert seeing.score > 0.75
    assert blind.score < seeing.score - 0.2
