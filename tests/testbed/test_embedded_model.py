"""The shipped model: small, loadable like any LLaVA, able, and worth pruning well."""

import dataclasses

import pytest
from transformers import LlavaForConditionalGeneration

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import VLM, check_checkpoint, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.tasks.shapes import ShapesTask
from benchmarks import frames
from policies.fixed import FixedPolicy


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return load_model("embedded:shapes-s0")


@pytest.fixture(scope="module")
def prepared(vlm: VLM):
    return prepare(vlm, ShapesTask("report", 25))


def test_it_is_a_stock_llava_of_at_most_8_mb(vlm: VLM):
    folder = check_checkpoint("embedded:shapes-s0")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8e6
    assert type(vlm.model) is LlavaForConditionalGeneration
    assert 12 <= vlm.model.config.text_config.num_hidden_layers <= 16
    assert vlm.model.config.image_seq_length >= 144


def test_it_answers(vlm: VLM, prepared):
    """95 % in docs/testbed.md, on 20 times the samples; 90 % here leaves room for chance."""
    assert evaluate(vlm, prepared).score > 0.9


def test_kinds_need_the_picture_to_different_depths(vlm: VLM, prepared):
    """After a quarter of the layers the tokens are needed still; after three quarters no more."""
    early = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=4, keep=0.0))).by_kind()
    late = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=12, keep=0.0))).by_kind()
    assert sum(late[kind] - early[kind] >= 0.3 for kind in late) >= 4
    assert early["relation"] - early["chain"] > 0.3


def test_choosing_well_matters(vlm: VLM, prepared):
    pruner = Pruner(FixedPolicy(layer=5, keep=0.25))
    by_attention = evaluate(vlm, prepared, pruner).score
    by_chance = evaluate(vlm, prepared, dataclasses.replace(pruner, scorer=scorers.random)).score
    assert by_attention - by_chance > 0.1


@pytest.mark.slow
def test_four_frames_keep_their_answers_at_half_the_flops(vlm: VLM):
    """As its single-picture twin does: docs/testbed.md, there on three times as many samples."""
    whole = ShapesTask("report", 8)
    told = {form: frames.measure(vlm, whole, form) for form in ("one picture", "grey, grey, grey, picture")}
    for form, n_vision in zip(told, (144, 4 * 144), strict=True):
        unpruned, pruned = told[form]["unpruned"], told[form]["pruned"]
        assert unpruned["n_vision"] == n_vision
        assert unpruned["mean"] > 0.75
        assert abs(pruned["mean"] - unpruned["mean"]) <= 0.05
        assert 0.48 < pruned["flops_ratio"] <= 0.5 < unpruned["flops_ratio"] == 1
