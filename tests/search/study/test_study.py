"""Objective and study on an evaluator without a model."""

import json

import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, settings
from optuna.trial import TrialState

from search.config.errors import ConfigError
from search.results import study_result
from search.results.trial_table import trials_frame
from search.study import loop, trials
from search.study.front import from_study
from search.study.preflight import check_study  # noqa: F401  (imports torch once, before anything is timed)
from search.study.storage import StudyStorage

optuna.logging.set_verbosity(optuna.logging.ERROR)


def run(given, evaluator, baselines=None):
    searched = objective(given, evaluator)
    made_of = given.made_of()
    opened = loop.open_study(StudyStorage.of(given.typed), made_of)
    wanted = given.typed.search.baselines if baselines is None else baselines
    space = given.space
    loop.enqueue(opened, [space.complete(b, given.settings.config, "b") for b in wanted])
    loop.run(opened, searched, given)
    return opened


def points(study):
    return [(t.params, t.values, t.state) for t in study.trials if t.state != TrialState.FAIL]


def test_same_seed_same_front_bit_for_bit_and_another_seed_another(tmp_path):
    first, second, other = (
        run(settings(tmp_path / name, "search.n_trials=14", f"seed={seed}"), FakeEvaluator())
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert points(first) == points(second)
    assert from_study(first) == from_study(second)
    assert points(first) != points(other)


def test_the_published_defaults_are_tried_first_at_the_bound(tmp_path):
    trial = run(settings(tmp_path, "search.n_trials=1", "budget.flops_ratio=0.45"), FakeEvaluator()).trials[0]
    assert trial.user_attrs["baseline"] == 0
    assert trial.params["pruner.policy.x0"] == 14.9
    assert trial.params["pruner.budget.flops_ratio"] == 0.45


@pytest.mark.parametrize("search", ["tpe", "random", "nsga2"])
def test_an_interrupted_study_goes_on_as_if_it_had_not_stopped(tmp_path, search):
    words = ("search.n_trials=16", f"search={search}")
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "cut", *words), FakeEvaluator(stop_at=9))
    cut = loop.existing(StudyStorage(tmp_path / "cut" / "s", "s"))
    assert [t.state for t in cut.trials][-2:] == [TrialState.FAIL, TrialState.WAITING]
    resumed = run(settings(tmp_path / "cut", *words), FakeEvaluator())
    assert points(resumed) == points(whole)
    assert sum(t.state == TrialState.FAIL for t in resumed.trials) == 1
    (repeated,) = [t for t in resumed.trials if trials.RETRY in t.user_attrs]
    assert repeated.state.is_finished()


def test_a_killed_trial_is_run_again_once(tmp_path):
    words = ("search.n_trials=6",)
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    given = settings(tmp_path / "killed", *words)
    study = run(settings(tmp_path / "killed", "search.n_trials=4"), FakeEvaluator())
    study.sampler = given.sampler(4)
    left = study.ask(whole.trials[4].distributions)  # what kill -9 leaves: a trial that runs for ever
    trials.claim(left, "host.1.gone")
    left.set_constraint("bound", 5.0)
    resumed = run(given, FakeEvaluator())
    assert points(resumed) == points(whole)
    (repeated,) = [t for t in resumed.trials if trials.RETRY in t.user_attrs]
    assert repeated.params == left.params
    assert repeated.constraints["bound"] <= 0


def test_an_interrupted_baseline_keeps_its_name(tmp_path):
    given = settings(tmp_path, "search.n_trials=2")
    with pytest.raises(KeyboardInterrupt):
        run(given, FakeEvaluator(stop_at=0))
    done = [t for t in run(given, FakeEvaluator()).trials if t.state == TrialState.COMPLETE]
    assert [t.user_attrs.get("baseline") for t in done] == [0, None]


def test_a_typed_value_is_not_searched_and_the_study_knows(tmp_path):
    words = ("policy=fixed", "pruner.policy.layer=3")
    evaluator = FakeEvaluator()
    study = run(settings(tmp_path, *words, "search.n_trials=5"), evaluator)
    assert {pruner.policy.layer for pruner in evaluator.runs} == {3}
    assert {name for trial in study.trials for name in trial.params} == {
        "pruner.budget.flops_ratio",
        "pruner.scorer._target_",
    }
    assert len(run(settings(tmp_path, *words, "search.n_trials=6"), FakeEvaluator()).trials) == 6
    with pytest.raises(ConfigError, match=r"pruner.policy.layer was 3, now 4"):
        run(settings(tmp_path, "policy=fixed", "pruner.policy.layer=4"), FakeEvaluator())


def test_a_study_of_another_search_says_how_it_goes_on(tmp_path):
    run(settings(tmp_path, "search=tpe", "search.n_trials=2"), FakeEvaluator())
    with pytest.raises(ConfigError, match=r"was 'optuna.samplers.TPESampler', now .*; search=tpe goes on with"):
        run(settings(tmp_path, "search.n_trials=3"), FakeEvaluator())
    assert len(run(settings(tmp_path, "search=tpe", "search.n_trials=3"), FakeEvaluator()).trials) == 3


def test_n_trials_is_the_total(tmp_path):
    evaluator = FakeEvaluator()
    run(settings(tmp_path, "search.n_trials=5"), evaluator)
    run(settings(tmp_path, "search.n_trials=5"), evaluator)
    assert len(run(settings(tmp_path, "search.n_trials=7"), evaluator).trials) == 7


def test_a_longer_study_begins_like_the_shorter_one(tmp_path):
    run(settings(tmp_path / "a", "search.n_trials=5"), FakeEvaluator())
    longer = run(settings(tmp_path / "a", "search.n_trials=15"), FakeEvaluator())
    assert points(longer) == points(run(settings(tmp_path / "b", "search.n_trials=15"), FakeEvaluator()))


def test_every_trial_carries_the_constraint_and_refused_ones_never_ran(tmp_path):
    evaluator = FakeEvaluator()
    words = ("policy=fixed", "search=tpe", "search.n_trials=25", "space.pruner.policy.layer.high=12", "seed=2")
    given = settings(tmp_path, *words)
    study = run(given, evaluator)
    refused = [t for t in study.trials if t.state == TrialState.PRUNED]
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert refused
    assert complete
    assert len(evaluator.runs) == len(complete)
    assert all("unreachable" in t.user_attrs["refused"] and t.constraints["bound"] > 0 for t in refused)
    assert all(t.constraints["bound"] <= 0 and t.values[0] <= 0.5 for t in complete)
    assert {t.number for t in study.best_trials} == {int(n) for n in from_study(study).labels}


def test_how_far_a_refused_budget_is_below_its_floor_tells_the_sampler(tmp_path):
    given = settings(tmp_path, "policy=fixed", "scorer=random", "search.n_trials=2")
    deep, deeper = ({"pruner.policy.layer": layer, "pruner.budget.flops_ratio": 0.3} for layer in (6, 8))
    near, far = run(given, FakeEvaluator(), [deep, deeper]).trials
    assert 0 < near.constraints["bound"] < far.constraints["bound"] < 1


def test_without_a_budget_the_bound_binds_before_the_model_runs(tmp_path):
    evaluator = FakeEvaluator()
    given = settings(tmp_path, "policy=fixed", "budget=none", "budget.flops_ratio=0.6", "search.n_trials=12")
    study = run(given, evaluator)
    over = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert over
    assert all("over the bound" in t.user_attrs["refused"] for t in over)
    assert all(t.constraints["bound"] == t.user_attrs["planned_ratio"] - 0.6 for t in over)
    same = [t for t in study.trials if "same_as" in t.user_attrs]
    assert len(evaluator.runs) == 12 - len(over) - len(same)
    assert trials_frame(study).query("state == 'pruned'")["flops_ratio"].min() > 0.6


def test_a_bound_in_tokens(tmp_path):
    study = run(settings(tmp_path, "budget=tokens", "budget.mean_tokens=40", "search.n_trials=6"), FakeEvaluator())
    tokens = [t.user_attrs["mean_tokens"] for t in study.trials if t.state == TrialState.COMPLETE]
    assert tokens
    assert max(tokens) <= 40


def test_a_score_that_is_no_number_is_no_result(tmp_path):
    study = run(settings(tmp_path, "search.n_trials=4"), FakeEvaluator(nan_at=2))
    assert [t.state for t in study.trials].count(TrialState.FAIL) == 1
    assert len(study.trials) == 4
    assert all(t.values is not None for t in trials.feasible(study))


def test_the_front_leaves_out_trials_without_a_constraint(tmp_path):
    study = run(settings(tmp_path, "search.n_trials=3"), FakeEvaluator())
    study.add_trial(optuna.trial.create_trial(values=[0.01, 1.0]))
    assert str(len(study.trials) - 1) not in from_study(study).labels


def test_other_settings_are_refused_by_name(tmp_path):
    run(settings(tmp_path, "search.n_trials=1"), FakeEvaluator())
    with pytest.raises(ConfigError, match=r"budget.flops_ratio was 0.5, now 0.4.*study=NAME.*--fresh"):
        run(settings(tmp_path, "search.n_trials=1", "budget.flops_ratio=0.4"), FakeEvaluator())


def test_what_does_not_change_results_may_differ_on_resume(tmp_path):
    run(settings(tmp_path, "search.n_trials=1"), FakeEvaluator())
    words = ("search.n_trials=2", "batch_size=7", "report.points=2", "model.device=cuda")
    assert len(run(settings(tmp_path, *words), FakeEvaluator()).trials) == 2


def test_the_tables_say_what_happened(tmp_path):
    given = settings(tmp_path, "policy=fixed", "search.n_trials=20", "seed=2")
    study = run(given, FakeEvaluator())
    front = study_result.write(study, given.settings)
    frame = trials_frame(study)
    assert len(frame) == 20
    assert frame["front"].sum() == len(front.costs)
    assert set(frame.loc[frame["front"], "trial"].astype(str)) == set(front.labels)
    assert not frame.loc[frame["state"] == "pruned", "feasible"].any()
    assert frame.loc[frame["feasible"], "score/hard"].notna().all()
    assert json.loads((given.out / "front.json").read_text()) == front.rows()
    assert study_result.StudyResult.read(given.out).front == front
