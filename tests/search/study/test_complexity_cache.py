"""Complexities on disk: found again by another process, and never for anything else than what they were read from."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.evidence.complexity import attention_entropy
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection import scorers
from autoprune_lab.tasks.shapes import ShapesTask
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.shapes.layout import layout
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.study import model_evaluator
from search.study.complexity_cache import ComplexityCache
from search.study.model_evaluator import ModelEvaluator

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.6))
TASK = ShapesTask("tune", 1)
BITS = np.arange(8) / 8


def vlm() -> VLM:
    return VLM(build_untrained(layout(n_layers=4, hidden=16), 0).eval(), build_processor(layout()), "untrained")


@pytest.fixture(scope="module")
def model() -> VLM:
    return vlm()


@pytest.fixture(scope="module")
def prepared(model):
    return prepare(model, TASK, batch_size=4)


@pytest.fixture
def cache(tmp_path, model, prepared):
    cache = ComplexityCache(tmp_path / "cache", model, prepared)
    cache.write(PRUNER, BITS)
    return cache


def test_another_process_finds_them(cache, prepared):
    again = vlm()
    other = ComplexityCache(cache.folder, again, prepare(again, TASK, batch_size=4))
    np.testing.assert_array_equal(other.read(PRUNER), BITS)


def test_what_an_opening_leaves_and_who_chooses_it_matter(cache):
    opened = dataclasses.replace(PRUNER, budget=Budget(flops_ratio=0.6, opening=32))
    cache.write(opened, BITS + 1)
    same = dataclasses.replace(PRUNER, budget=Budget(flops_ratio=0.3, opening=32), max_cuts=2)
    np.testing.assert_array_equal(cache.read(same), BITS + 1)
    for changed in ({"budget": Budget(flops_ratio=0.6, opening=31)}, {"opening_scorer": scorers.feature_norm}):
        assert cache.read(dataclasses.replace(opened, **changed)) is None
    np.testing.assert_array_equal(cache.read(dataclasses.replace(PRUNER, opening_scorer=scorers.random)), BITS)


def test_policy_and_budget_do_not_matter(cache):
    other = Pruner(LogisticAdaptivePolicy(k0=1.0), Budget(flops_ratio=0.3), max_cuts=2)
    np.testing.assert_array_equal(cache.read(other), BITS)


@pytest.mark.parametrize(
    "changed",
    [
        {"probe_layer": 2},
        {"complexity": attention_entropy},
        {"complexity": partial(PRUNER.complexity, x=1)},
        {"budget": Budget(flops_ratio=0.6, opening=32)},
    ],
)
def test_another_question_to_the_model_is_another_entry(cache, changed):
    assert cache.read(dataclasses.replace(PRUNER, **changed)) is None


@pytest.mark.parametrize(
    "name", ["model.language_model.layers.3.mlp.up_proj.weight", "model.vision_tower.post_layernorm.bias"]
)
def test_a_model_with_one_other_weight_is_another_entry(cache, prepared, name):
    other = vlm()
    with torch.no_grad():
        weight = next(weight for key, weight in other.model.state_dict().items() if key.endswith(name[6:]))
        weight.view(-1)[-1] += 1e-3
    assert ComplexityCache(cache.folder, other, prepared).read(PRUNER) is None


def test_two_weights_that_change_places_are_another_entry(cache, prepared):
    other = vlm()
    with torch.no_grad():
        weight = other.model.state_dict()["model.language_model.layers.0.mlp.up_proj.weight"]
        weight[0, 0], weight[1, 1] = weight[1, 1].clone(), weight[0, 0].clone()
    assert ComplexityCache(cache.folder, other, prepared).read(PRUNER) is None


def test_other_samples_pictures_or_batches_are_another_entry(cache, model, prepared):
    first = prepared.samples[0]
    worded = dataclasses.replace(first, question=first.question + "?")
    painted = dataclasses.replace(first, images=(first.images[0].point(lambda value: value ^ 1),))
    for sample in (worded, painted):
        other = dataclasses.replace(prepared, samples=(sample, *prepared.samples[1:]))
        assert ComplexityCache(cache.folder, model, other).read(PRUNER) is None
    batched = prepare(model, TASK, batch_size=2, blocks=2)
    assert ComplexityCache(cache.folder, model, batched).read(PRUNER) is None


def test_files_appear_whole(cache):
    assert [file.suffix for file in cache.folder.iterdir()] == [".npy"]


def test_a_bench_reads_the_model_once_for_all_studies(tmp_path, model, prepared, monkeypatch):
    calls = []
    read = model_evaluator.read_complexities

    def counted(*words):
        calls.append(1)
        return read(*words)

    monkeypatch.setattr(model_evaluator, "read_complexities", counted)
    cache = ComplexityCache(tmp_path, model, prepared)
    first, second, none = (ModelEvaluator(model, prepared, cache=c) for c in (cache, cache, None))
    bits = [opened.complexities(PRUNER) for opened in (first, first, second, none)]
    assert len(calls) == 2
    for other in bits[1:]:
        np.testing.assert_array_equal(other, bits[0])
    assert (bits[0] > 0).all()
    assert (second.complexities(Pruner(FixedPolicy())) == 0).all()


def test_a_trial_is_told_the_complexities_that_are_known_and_answers_the_same(model, prepared):
    asked = []

    def counted(evidence):
        asked.append(evidence.layer)
        return attention_entropy(evidence)

    pruner = dataclasses.replace(PRUNER, complexity=counted)
    alone = ModelEvaluator(model, prepared)
    bits = alone.complexities(pruner)
    telling = dataclasses.replace(alone, tells=True)
    asked.clear()
    told = telling.run(pruner)
    assert not asked
    own = alone.run(pruner)
    assert len(asked) == len(prepared.batches)
    np.testing.assert_array_equal([row.complexity for row in told.rows], bits)
    for one, other in zip(told.rows, own.rows, strict=True):
        assert one.scoring_flops < other.scoring_flops
        assert dataclasses.replace(one, scoring_flops=other.scoring_flops) == other


def test_a_policy_that_reads_no_number_is_told_none(model, prepared):
    pruner = Pruner(FixedPolicy(), Budget(flops_ratio=0.6))
    told = ModelEvaluator(model, prepared, tells=True).run(pruner)
    assert {row.complexity for row in told.rows} == {None}
