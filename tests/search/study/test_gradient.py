"""Gradient search: one step of the augmented Lagrangian, slopes against differences, ascents, what is refused."""

import numpy as np
import optuna
import pytest
from fake_evaluator import FakeEvaluator, refused, run, settings

from search.study.front import from_study
from search.study.gradient import ASCENT, moved
from search.study.objective import Objective
from search.study.slopes import COST_SLOPES, SCORE_SLOPES

optuna.logging.set_verbosity(optuna.logging.ERROR)
CURVE = (
    "policy=logistic_adaptive",
    "pruner.policy.gamma=0",
    "pruner.policy.x_gamma=0",
    "scorer=uniform",
    "budget=none",
)
CURVE = (*CURVE, "budget.flops_ratio=0.35", "search=gradient", "search.baselines=[]")
HERE, SCORE, COST = np.array([0.5, 0.5, 0.5]), np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, 1.0])


def test_a_step_at_the_bound_gains_at_the_same_cost():
    step = moved(HERE, SCORE, COST, 0.0, 0.1) - HERE
    assert step @ COST == pytest.approx(0.0)
    assert step @ SCORE > 0
    assert np.linalg.norm(step) == pytest.approx(0.1)


def test_a_step_from_over_the_bound_leads_back_to_it_and_one_from_below_up_to_it():
    assert (moved(HERE, SCORE, COST, 0.05, 0.1) - HERE) @ COST == pytest.approx(-0.05)
    assert (moved(HERE, SCORE, COST, -0.05, 0.1) - HERE) @ COST == pytest.approx(0.05, rel=0.2)


def test_a_step_from_far_below_is_straight_uphill():
    step = moved(HERE, SCORE, COST, -0.9, 0.1) - HERE
    np.testing.assert_allclose(step, 0.1 * SCORE / np.linalg.norm(SCORE))


def test_where_no_model_ran_a_step_goes_straight_back():
    np.testing.assert_allclose(moved(HERE, 0 * SCORE, COST, 0.1, 0.2) - HERE, -0.1 * COST / 2)


def test_an_axis_at_its_end_stays_there():
    there = moved(np.array([1.0, 0.5, 0.5]), SCORE, COST, 0.0, 0.1)
    assert there[0] == 1.0
    assert (there - [1.0, 0.5, 0.5]) @ COST == pytest.approx(0.0)
    assert (moved(np.ones(3), SCORE, np.zeros(3), 0.0, 0.1) == 1.0).all()


def searched(tmp_path, *words, n=16, seed=0):
    return run(settings(tmp_path, *CURVE, f"search.n_trials={n}", f"seed={seed}", *words), FakeEvaluator())


def test_slopes_are_what_a_trial_s_neighbours_cost_and_score(tmp_path):
    given = settings(tmp_path, *CURVE, "search.mode=best", "search.pruner=null")
    objective, study = Objective.of(given, FakeEvaluator()), optuna.create_study(direction="maximize")
    low, high = 0.05, 2.0
    k0, wide = "pruner.policy.k0", 0.1
    units = [0.5 - wide / 2, 0.5, 0.5 + wide / 2]
    for unit in units:
        value = low * (high / low) ** unit
        study.enqueue_trial({k0: value, "pruner.policy.x0": 3.0, "pruner.policy.floor": 0.1})
        study.optimize(objective, n_trials=1)
    less, here, more = study.trials
    cost = (more.user_attrs["planned_ratio"] - less.user_attrs["planned_ratio"]) / wide
    assert here.user_attrs[COST_SLOPES][k0] == pytest.approx(cost, rel=1e-6)
    assert here.user_attrs[SCORE_SLOPES][k0] == pytest.approx((more.value - less.value) / wide, rel=0.2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_ascent_beats_as_many_random_trials_and_ends_within_the_bound(tmp_path, seed):
    words = ("search.mode=best", "search.pruner=null")
    climbed = searched(tmp_path / "gradient", *words, seed=seed)
    drawn = searched(tmp_path / "random", *words, "search=random", seed=seed)
    assert climbed.best_value > drawn.best_value
    assert climbed.best_trial.user_attrs["planned_ratio"] <= 0.35
    assert all(t.state.name == "PRUNED" for t in climbed.trials if t.user_attrs["planned_ratio"] > 0.35)
    first = [t for t in climbed.trials if t.system_attrs.get(ASCENT, (0, 0, None))[0] == 0]
    scores = [t.value for t in first if t.state.name == "COMPLETE"]
    assert scores[-1] >= scores[0]


def test_on_a_front_each_ascent_has_a_bound_of_its_own(tmp_path):
    study = searched(tmp_path, "search.sampler.steps=4", n=20)
    costs = from_study(study).costs
    assert min(costs) < 0.30 < 0.34 < max(costs) <= 0.35
    assert {t.system_attrs[ASCENT][0] for t in study.trials[1:]} >= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("space=policies",), "cannot search the group policy"),
        (("budget=tokens",), "budget.flops_ratio is null"),
        (("search.sampler.reach=2",), "reach=2"),
        (("pruner.positions=compact",), "pruner.positions=original"),
        (("recovery=contextual_merge",), "recovery=drop"),
    ],
)
def test_what_it_cannot_climb_is_told_before_a_model_is_loaded(here, no_model, capsys, words, said):
    argv = ["study", "search=gradient", "tracking=none", "task.per_kind=1", *words]
    refused(argv, [said], capsys, here)
