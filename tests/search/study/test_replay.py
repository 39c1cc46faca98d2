"""Replays: the answers of `evaluate` along given curves, asked of the model once."""

from dataclasses import replace

import numpy as np
import pytest
from answering import answering

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.study.complexity_cache import ComplexityCache
from search.study.model_evaluator import ModelEvaluator
from search.study.replay import replay, replay_pruners

CUT = (1.0, 1.0, 0.5, 0.0)
FULL = (1.0,) * 4
PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(mean_tokens=60), scorer=scorers.feature_norm, probe_layer=-1)


@pytest.fixture(scope="module")
def prepared():
    vlm = answering(4)
    return vlm, prepare(vlm, ShapesTask("tune", 1), batch_size=4)


@pytest.fixture
def evaluator(prepared):
    return ModelEvaluator(*prepared)


def test_a_curve_as_it_is_gives_what_evaluate_gives(evaluator):
    made = replay(evaluator, PRUNER, [FULL, CUT])
    unpruned = evaluator.run(None).rows
    cut = evaluator.run(replace(PRUNER, policy=FixedPolicy(2, 0.5), budget=None)).rows
    assert made.curves == (FULL, CUT)
    assert made.agrees[:, 0].all()
    assert (made.flops_ratio[:, 0] == 1).all()
    assert made.scores[:, 0].tolist() == [row.score for row in unpruned]
    assert made.right[:, 0].tolist() == [row.score > 0 for row in unpruned]
    assert made.mean_tokens.tolist() == [[144, 90]] * 8  # (144 + 144 + 72 + 0) / 4
    flops = [row.decoder_flops / row.unpruned_flops for row in cut]  # with half of the tokens in the last layer too
    assert (made.flops_ratio[:, 1] < flops).all()


def test_a_scaled_curve_costs_the_budget_as_the_policys_own_would(evaluator):
    pruner = replace(PRUNER, policy=FixedPolicy(0, 0.5))
    scaled = replay(evaluator, pruner, [(0.5,) * 4, (1.0, 1.0, 0.0, 0.0)], scaled=True)
    own = evaluator.run(pruner).rows
    assert scaled.mean_tokens.tolist() == [[60, 60]] * 8
    assert scaled.agrees[:, 0].tolist() == [
        row.prediction == whole.prediction for row, whole in zip(own, evaluator.run(None).rows, strict=True)
    ]
    assert scaled.scores[:, 0].tolist() == [row.score for row in own]
    assert scaled.curves[1] == (120 / 144, 120 / 144, 0, 0)


def test_a_curve_of_another_length_is_refused(evaluator):
    with pytest.raises(ValueError, match="a curve of 1 values for a decoder of 4 layers"):
        replay(evaluator, PRUNER, [(0.5,)])


def test_layers_up_to_the_probe_and_an_opening_are_the_pruners(evaluator):
    probing = replace(PRUNER, probe_layer=1)
    assert replay(evaluator, probing, [(0.0,) * 4]).curves == ((1, 1, 0, 0),)
    for budget in (Budget(mean_tokens=60, opening=72), MeanBudget(mean_tokens=60, opening=72)):
        opened = replace(probing, budget=budget)
        assert replay(evaluator, opened, [(0.5,) * 4]).curves == ((0.5, 0.5, 0.25, 0.25),)
        assert replay(evaluator, opened, [(0.5,) * 4], scaled=True).mean_tokens.tolist() == [[60]] * 8


def test_an_adaptive_pruner_is_replayed_as_it_is(evaluator):
    pruner = replace(PRUNER, probe_layer=0)
    made = replay_pruners(evaluator, [pruner])
    assert made.scores[:, 0].tolist() == [row.score for row in evaluator.run(pruner).rows]


def test_the_model_is_asked_once_also_by_another_process(prepared, tmp_path, monkeypatch):
    asked, run = [], ModelEvaluator.run
    monkeypatch.setattr(ModelEvaluator, "run", lambda self, pruner: asked.append(pruner) or run(self, pruner))
    cache = ComplexityCache(tmp_path, *prepared)
    first, second = (ModelEvaluator(*prepared, cache=cache) for _ in range(2))
    made = replay(first, PRUNER, [CUT, FULL, CUT])
    assert len(asked) == 3  # the two curves, and unpruned
    again = replay(first, PRUNER, [FULL]) + replay(second, PRUNER, [CUT])
    assert len(asked) == 3
    assert np.array_equal(again.scores, made.scores[:, 1:])
    replay(second, replace(PRUNER, scorer=scorers.random), [CUT])
    assert len(asked) == 4
    assert {file.suffix for file in tmp_path.iterdir()} == {".json"}
