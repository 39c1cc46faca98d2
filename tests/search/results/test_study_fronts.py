"""A study's front from optuna, and which parameters made it."""

import math

import numpy as np
import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, settings

from autoprune_lab.fronts.front import NotOnFront
from search.config.errors import ConfigError
from search.results.importance import importance
from search.study import loop
from search.study.front import from_study
from search.study.storage import StudyStorage
from search.tracking.fronts import from_mlflow, studies_in_mlflow

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(*trials):
    """Each trial: (values or None, distance over the bound or None)."""
    study = optuna.create_study(directions=["minimize", "maximize"])
    for values, over in trials:
        trial = study.ask()
        if over is not None:
            trial.set_constraint("bound", over)
        if values is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, values)
    return study


def test_trials_over_the_bound_without_a_constraint_or_a_result_are_counted_not_drawn():
    nan = math.nan
    study = study_of(([0.3, 0.6], -0.2), (None, 0.1), ([0.1, 0.9], None), ([0.2, nan], -0.3), ([0.4, 0.5], -0.1))
    front = from_study(study)
    assert front.rows() == [{"cost": 0.3, "score": 0.6, "label": "0"}]
    assert front.left_out == NotOnFront(dominated=1, infeasible=2, no_result=1)


def test_a_trial_that_was_cut_off_and_ran_again_counts_once(tmp_path):
    given = settings(tmp_path, "policy=fixed", "search.n_trials=6", "seed=2")
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    with pytest.raises(KeyboardInterrupt):
        loop.run(study, objective(given, FakeEvaluator(stop_at=1)), given)
    loop.run(study, objective(given, FakeEvaluator()), given)
    front = from_study(study)
    left = front.left_out
    assert len(study.trials) == 7
    assert len(front.costs) + left.dominated + left.infeasible + left.no_result == 6
    assert {int(label) for label in front.labels} == {trial.number for trial in study.best_trials}


def test_importance_is_for_high_scores_and_low_costs():
    """Where the score is high only `a` matters, where it is low only `b`; the cost is `c`."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(directions=["minimize", "maximize"])
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abcd"}
    for _ in range(300):
        a, b, c, d = rng.random(4).tolist()
        score = a if a > 0.5 else -b
        trial = optuna.trial.create_trial(
            params=dict(zip("abcd", (a, b, c, d), strict=True)), distributions=space, values=[c, score]
        )
        study.add_trial(trial)
    found = importance(study).set_index("parameter")
    assert found["score"].idxmax() == "a"
    assert found["cost"].idxmax() == "c"
    assert found.loc["a", "score"] > 0.8
    assert found.sum().tolist() == pytest.approx([1, 1])


def test_importance_of_what_never_changed_is_unknown():
    assert importance(study_of()).empty
    study = optuna.create_study(directions=["minimize", "maximize"])
    space = {"a": optuna.distributions.FloatDistribution(0, 1)}
    for values in ([0.1, 0.2], [0.3, 0.4]):
        study.add_trial(optuna.trial.create_trial(params={"a": 0.5}, distributions=space, values=values))
    assert importance(study)["score"].isna().tolist() == [True]


def test_mlflow_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(ConfigError, match=r"no MLflow database.*run autoprune study first"):
        from_mlflow(f"sqlite:///{tmp_path}/none.db", "s")
    with pytest.raises(ConfigError, match="no MLflow database"):
        studies_in_mlflow(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []
