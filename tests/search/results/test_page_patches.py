"""What the page is given to paint: a few samples, what each point keeps of them, and why something is not there."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from answering import answering
from PIL import Image

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy
from search.results.page import patches


@pytest.fixture(scope="module")
def evaluator():
    samples = (Sample("blind", (), "which?", ("a",), "blind"), *ShapesTask("report", 2).samples())
    prepared = SimpleNamespace(samples=samples)
    return SimpleNamespace(vlm=answering(4), prepared=prepared, geometries=[SimpleNamespace(n_layers=4)])


def test_four_samples_of_four_kinds_are_painted_for_each_point(evaluator, tmp_path):
    patches.write(tmp_path, evaluator, {7: Pruner(FixedPolicy(layer=2, keep=0.5))})
    found = json.loads((tmp_path / "patches.json").read_text())
    assert len({sample["kind"] for sample in found["samples"]}) == 4
    known = {sample.id: sample for sample in evaluator.prepared.samples}
    for sample in found["samples"]:
        picture = Image.open(io.BytesIO(base64.b64decode(sample["picture"].partition(",")[2])))
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(known[sample["id"]].images[0])).max() <= 1
        assert sample["answer"] == known[sample["id"]].answers[0]
    assert np.shape(found["depths"]["7"]) == (4, 144)
    assert [sorted(set(row)) for row in found["depths"]["7"]] == [[2, 4]] * 4
    assert [sum(depth > 2 for depth in row) for row in found["depths"]["7"]] == [72] * 4


def test_what_cannot_be_painted_is_named(evaluator):
    unreachable = Pruner(FixedPolicy(layer=2, keep=0.5), Budget(flops_ratio=0.01))
    found = patches.painted(evaluator, {1: unreachable, 2: Pruner(FixedPolicy(layer=2, keep=0.5))})
    assert set(found["depths"]) == {"2"}
    assert "0.01" in found["whys"]["1"]
    blind = SimpleNamespace(vlm=evaluator.vlm, prepared=SimpleNamespace(samples=evaluator.prepared.samples[:1]))
    assert patches.painted(blind, {}) == {"why": "patches are painted of samples with one picture each"}
