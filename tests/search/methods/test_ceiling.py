"""The ceiling above an adaptive policy, on a model of four layers that answers a part of the questions."""

from dataclasses import replace

import numpy as np
import pytest
from answering import answering

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import staircase
from autoprune_lab.statistics.replay import rectangles
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy
from policies.staircase_table import StaircaseTablePolicy
from search.config.errors import ConfigError
from search.methods.ceiling import Arm, Bound, Ceiling, staircases, steps_of
from search.study.model_evaluator import ModelEvaluator

TOKENS, FLOPS = Bound("mean_tokens", 50.0), Bound("flops_ratio", 0.4)


@pytest.fixture(scope="module")
def splits():
    vlm = answering(4)
    return [ModelEvaluator(vlm, prepare(vlm, ShapesTask(split, 2), batch_size=16)) for split in ("tune", "report")]


def arms(on_tune, on_report, bound):
    grid = rectangles([1, 4], [0.1, 1.0], 4, free_from=1)
    fixed = Pruner(FixedPolicy(1, 0.5), bound.budget(None), probe_layer=0)
    base = replace(fixed, policy=LogisticAdaptivePolicy(), budget=Budget(flops_ratio=0.9))
    ceiling = Ceiling(on_tune, on_report, bound, grid, staircases([1, 2, 4], 4)[:6], base, base, fixed)
    own = float(np.mean([row.score for row in on_report.run(fixed).rows]))
    best = Arm.of("best", [on_report.run(ceiling.best_fixed)])
    return own, ceiling, [best, *ceiling.arms()]


def test_staircases_have_one_to_three_steps():
    assert staircases([1, 2], 3) == [(1, 0, 0), (1, 1, 0), (1, 0.3, 0), (1, 0.1, 0)]
    assert (1.0, 1.0, 0.3, 0.1, 0.0) in staircases([2, 3, 4], 5)
    assert len(staircases(range(1, 7), 8)) == 6 + 15 * 2 + 20


@pytest.mark.parametrize("bound", [TOKENS, FLOPS])
def test_chosen_where_it_is_scored_nobody_is_below_who_may_choose_less(splits, bound):
    own, _, (best, equal, mean, hindsight, hindsight_mean) = arms(splits[0], splits[0], bound)
    scores = [float(arm.scores.mean()) for arm in (best, equal, mean, hindsight, hindsight_mean)]
    assert own <= scores[0] <= scores[1] <= min(scores[2], scores[3])
    assert max(scores) == scores[4] > scores[0]
    for arm in (best, equal, mean, hindsight, hindsight_mean):
        cost = {"mean_tokens": arm.mean_tokens, "flops_ratio": arm.flops_ratio}[bound.unit]
        assert cost <= bound.value + 1e-9
    assert [arm.name for arm in (equal, hindsight_mean)] == [
        "oracle per kind, equal budgets",
        "hindsight per sample, mean held",
    ]


def test_a_task_without_kinds_has_no_oracle_above_the_best_staircase(splits):
    alone = []
    for split in splits:
        samples = tuple(replace(sample, kind="all") for sample in split.prepared.samples)
        alone.append(replace(split, prepared=replace(split.prepared, samples=samples)))
    _, ceiling, (best, equal, *_) = arms(*alone, TOKENS)
    assert equal.scores.tolist() == best.scores.tolist()
    whole = ceiling.unpruned("unpruned")
    assert (whole.mean_tokens, whole.flops_ratio) == (144, 1)
    assert whole.scores.tolist() == [row.score for row in splits[1].run(None).rows]


def test_a_kind_that_no_curve_was_chosen_for_is_refused(splits):
    tune = splits[0]
    samples = tuple(replace(sample, kind="other") for sample in tune.prepared.samples)
    with pytest.raises(ConfigError, match=r"no sample in the tune split: attribute, .*raise task\.per_kind"):
        arms(replace(tune, prepared=replace(tune.prepared, samples=samples)), splits[1], TOKENS)


def test_a_table_is_filled_from_the_pool_by_the_numbers_of_the_estimator(splits):
    """Its tune score is that of the pool's curves by bin, and no less than the best staircase's for all."""
    _, ceiling, _ = arms(*splits, TOKENS)
    assert ceiling.table is None
    policy = StaircaseTablePolicy()
    tabled = replace(ceiling, adaptive=replace(ceiling.adaptive, policy=policy, budget=TOKENS.budget(None)))
    table = tabled.table
    assert len(table.policy.depths) == len(table.policy.edges) + 1
    staircase_scores = tabled.tune.replay.scores[:, 1 : 1 + len(tabled.staircases)].mean(axis=0)
    assert tabled.on_tune_score(table) >= staircase_scores.max() - 1e-9
    assert splits[0].run(table).mean_tokens <= TOKENS.value


def test_a_staircases_steps_give_its_curve_back():
    for curve in staircases([2, 3, 5], 5):
        assert tuple(staircase(5, [round(x * 5) for x in steps_of(curve)[0]], steps_of(curve)[1])) == curve
