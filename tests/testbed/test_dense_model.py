"""The shipped model of crowded scenes: small, able, and its kinds of question need unlike curves."""

import pytest

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM, check_checkpoint, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.dense import DenseTask
from policies.fixed import FixedPolicy


@pytest.fixture(scope="module", params=["embedded:dense-s0", "embedded:dense-s1", "embedded:dense-s2"])
def vlm(request: pytest.FixtureRequest) -> VLM:
    return load_model(request.param)


@pytest.fixture(scope="module")
def prepared(vlm: VLM):
    return prepare(vlm, DenseTask("report", 10))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_small(seed: int):
    folder = check_checkpoint(f"embedded:dense-s{seed}")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6


def test_it_answers(vlm: VLM, prepared):
    """docs/testbed.md has the figure, on two and a half times the samples; 90 % here leaves room for chance."""
    assert evaluate(vlm, prepared).score > 0.9


def test_kinds_need_the_picture_to_different_depths(vlm: VLM, prepared):
    """After six of sixteen layers one look is done, a trail of hops is not; after fourteen it is."""
    early = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=6, keep=0.0))).by_kind()
    late = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=14, keep=0.0))).by_kind()
    assert early["where"] - early["trail3"] > 0.5
    assert late["trail3"] - early["trail3"] > 0.5
