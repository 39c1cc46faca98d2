"""Gradient search: one step of the augmented Lagrangian, slopes against differences, ascents, what is refused."""

import numpy as np
import optuna
import pytest
from answering import answering
from fake_evaluator import FakeEvaluator, refused, run, settings

from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.tasks.shapes import ShapesTask
from benchmarks.gradient import summarise
from search.results.trial_table import trials_frame
from search.study.front import from_study
from search.study.gradient import ASCENT, moved
from search.study.model_evaluator import ModelEvaluator
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


def test_two_who_ask_at_once_climb_side_by_side(tmp_path):
    given = settings(tmp_path, *CURVE, "search.mode=best", "search.pruner=null")
    study = optuna.create_study(direction="maximize", sampler=given.sampler(0))
    study.optimize(Objective.of(given, FakeEvaluator()), n_trials=1)
    asked = [study.ask() for _ in range(2)]
    for trial in asked:
        given.space.suggest(trial)
    notes = [study.trials[trial.number].system_attrs[ASCENT] for trial in asked]
    assert notes == [[0, 1, 0], [1, 0, None]]
    assert asked[0].params != asked[1].params


def test_what_is_no_number_is_kept_within_an_ascent(tmp_path):
    who = "+space.pruner.scorer._target_={type: categorical, choices: [%s]}"
    scorers = ",".join(
        f"autoprune_lab.selection.scorers.{name}" for name in ("uniform", "feature_norm", "text_attention")
    )
    words = (who % scorers, "search.mode=best", "search.pruner=null", "search.sampler.steps=3")
    study = searched(tmp_path, *words)
    chosen = {}
    for trial in study.trials:
        ascent = trial.system_attrs.get(ASCENT, (0, 0, None))[0]
        chosen.setdefault(ascent, set()).add(trial.params["pruner.scorer._target_"])
    assert all(len(names) == 1 for names in chosen.values())
    assert len(set.union(*chosen.values())) > 1


def test_a_model_s_trials_have_slopes_that_no_table_shows(tmp_path):
    vlm = answering(6)
    evaluator = ModelEvaluator(vlm, prepare(vlm, ShapesTask("tune", 1), batch_size=8))
    words = ("search.mode=best", "search.pruner=null", "search.score=kl", "budget.flops_ratio=0.7")
    given = settings(tmp_path, *CURVE, *words)
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"pruner.policy.k0": 0.3, "pruner.policy.x0": 4.0, "pruner.policy.floor": 0.0})
    study.enqueue_trial({"pruner.policy.k0": 0.3, "pruner.policy.x0": 28.0, "pruner.policy.floor": 0.3})
    study.optimize(Objective.of(given, evaluator), n_trials=2)
    ran, over = study.trials
    assert all(slope != 0 for slope in ran.user_attrs[SCORE_SLOPES].values())
    assert SCORE_SLOPES not in over.user_attrs  # no model ran
    assert all(trial.user_attrs[COST_SLOPES]["pruner.policy.x0"] > 0 for trial in study.trials)
    assert not [column for column in trials_frame(study).columns if column.startswith("slopes")]


def test_the_benchmark_compares_after_the_same_time():
    rows = [
        {"arm": "gradient", "seed": 0, "best": [None, 0.5], "seconds": [1.0, 9.0], "ran": 1, "report": 0.6},
        {"arm": "tpe", "seed": 0, "best": [0.1, 0.2, 0.7], "seconds": [4.0, 8.0, 12.0], "ran": 3, "report": 0.7},
    ]
    gradient, tpe = summarise(rows, [1, 2])
    assert gradient["best@1"] is None
    assert (gradient["best@2"], tpe["best@2"]) == (0.5, 0.2)
    assert (tpe["trials in the same time"], tpe["best in the same time"]) == (2.0, 0.2)
    assert tpe["seconds a trial"] == 4.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("space=policies",), "cannot search the group policy"),
        (("budget=tokens",), "budget.flops_ratio is null"),
        (("search.sampler.reach=2",), "reach=2"),
        (("pruner.positions=compact",), "pruner.positions=original"),
        (("recovery=contextual_merge",), "recovery=drop"),
        (("model.attention=flex_attention",), "model.attention=flex_attention"),
        (("model=embedded_driving_loop", "task=driving_closed_loop"), "closed loop"),
    ],
)
def test_what_it_cannot_climb_is_told_before_a_model_is_loaded(here, no_model, capsys, words, said):
    argv = ["study", "search=gradient", "tracking=none", "task.per_kind=1", *words]
    refused(argv, [said], capsys, here)
