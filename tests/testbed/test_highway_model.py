"""The shipped highway model: it drives highway-env, and without its pictures it does not."""

import pytest

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import check_checkpoint, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.highway import HighwayTask
from autoprune_lab.testbed.highway.simulator import missing
from policies.fixed import FixedPolicy

if missing() is not None:
    pytest.skip(str(missing()), allow_module_level=True)


def test_it_drives_and_needs_its_pictures():
    """Figures on many more rides stand in docs/driving.md; these leave room for chance."""
    folder = check_checkpoint("embedded:highway-s0")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    vlm = load_model("embedded:highway-s0")
    prepared = prepare(vlm, HighwayTask("report", 2), 6)
    seeing = evaluate(vlm, prepared)
    blind = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0))
    assert prepared.task.summary(seeing.rows)["unreadable"] == 0
    assert seeing.score > 0.75
    assert blind.score < seeing.score - 0.2
