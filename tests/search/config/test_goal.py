"""What a study wants: the front or the best score, at which cost, within which limits; without a model."""

import dataclasses

import optuna
import pytest
from fake_evaluator import FakeEvaluator, run, settings
from optuna.trial import TrialState

from search.config.errors import ConfigError
from search.results import report, study_result
from search.results.trial_table import trials_frame
from search.study.front import from_study, point_of
from search.study.ledger import Ledger
from search.study.preflight import check_study  # noqa: F401  (imports torch once, before anything is timed)
from search.study.progress import line
from search.study.trials import feasible

optuna.logging.set_verbosity(optuna.logging.ERROR)
BEST = ("search.mode=best", "search=random")


def states(study):
    return [t.state for t in study.trials if t.state != TrialState.FAIL]


def stopped(study):
    return [t for t in study.trials if "stopped" in t.user_attrs]


def test_the_best_score_within_the_bound_is_one_value(tmp_path):
    given = settings(tmp_path, *BEST, "search.n_trials=14", "search.pruner=null")
    study = run(given, FakeEvaluator())
    assert [d.name for d in study.directions] == ["MAXIMIZE"]
    front = study_result.write(study, given.settings)
    best = max(feasible(study), key=lambda t: t.values[0])
    assert front.scores[-1] == study.best_value == best.values[0]
    assert point_of(best) == (best.user_attrs["flops_ratio"], study.best_value)
    assert f"best score {study.best_value:.3f} at" in line(Ledger(study).look(), 14, 0, 1.0)
    frame = trials_frame(study).set_index("trial")
    assert frame.loc[best.number, ["cost", "score"]].tolist() == list(point_of(best))
    assert report.tuned_pruners(study, given, front)[best.number].budget.flops_ratio <= 0.5


def test_the_best_point_is_the_same_as_a_front_s_best(tmp_path):
    front = run(settings(tmp_path / "a", "search=random", "search.n_trials=14"), FakeEvaluator())
    best = run(settings(tmp_path / "b", *BEST, "search.n_trials=14", "search.pruner=null"), FakeEvaluator())
    assert best.best_value == max(t.values[1] for t in feasible(front))


def test_bad_trials_are_stopped_early_and_keep_their_constraint(tmp_path):
    evaluator = FakeEvaluator()
    study = run(settings(tmp_path, *BEST, "search.n_trials=14"), evaluator)
    early = stopped(study)
    assert early
    assert evaluator.blocks < len(evaluator.runs) * evaluator.n_blocks
    assert all(t.state == TrialState.PRUNED and t.constraints["bound"] <= 0 for t in early)
    assert all(1 < len(t.intermediate_values) < evaluator.n_blocks for t in early)
    assert all(t.user_attrs["flops_ratio"] <= 0.5 for t in early)
    whole = run(settings(tmp_path / "whole", *BEST, "search.n_trials=14", "search.pruner=null"), FakeEvaluator())
    assert study.best_value == whole.best_value
    frame = trials_frame(study)
    assert not frame.loc[frame["stopped"].notna(), "feasible"].any()
    assert f"{len(early)} stopped early" in report.trials_table(frame)


def test_an_interrupted_study_for_the_best_goes_on_as_if_it_had_not_stopped(tmp_path):
    words = ("search.mode=best", "search.n_trials=14")
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "cut", *words), FakeEvaluator(stop_at=7))
    resumed = run(settings(tmp_path / "cut", *words), FakeEvaluator())
    done = [(t.params, t.values, t.state) for t in resumed.trials if t.state != TrialState.FAIL]
    assert done == [(t.params, t.values, t.state) for t in whole.trials]


def test_another_goal_is_another_study(tmp_path):
    run(settings(tmp_path, "search.n_trials=1"), FakeEvaluator())
    with pytest.raises(ConfigError, match=r"search.mode was 'front', now 'best'"):
        run(settings(tmp_path, "search.n_trials=1", "search.mode=best"), FakeEvaluator())


@pytest.mark.parametrize("words", [(), (*BEST, "search.pruner=null")])
def test_a_limit_is_a_constraint_of_its_own_on_every_path(tmp_path, words):
    # The bench's collision rate is 1 - score.
    bound = ("policy=fixed", "budget.flops_ratio=0.45", "space.pruner.policy.layer.high=12", "seed=2")
    given = settings(tmp_path, *words, *bound, "search.n_trials=25", "search.limits={collision_rate: 0.4}")
    study = run(given, FakeEvaluator())
    assert TrialState.PRUNED in states(study)
    ended = [t for t in study.trials if t.state.is_finished()]
    assert all(set(t.constraints) == {"bound", "limit/collision_rate"} for t in ended)
    ran = [t for t in ended if t.state == TrialState.COMPLETE]
    assert all(t.constraints["limit/collision_rate"] == pytest.approx(0.6 - t.values[-1]) for t in ran)
    assert all(t.user_attrs["figure/collision_rate"] == pytest.approx(1 - t.values[-1]) for t in ran)
    within = feasible(study)
    assert 0 < len(within) < len(ran)
    assert min(t.values[-1] for t in within) >= 0.6
    assert {int(label) for label in from_study(study).labels} <= {t.number for t in within}


@pytest.mark.parametrize("cost", ["kv_bytes", "mean_tokens", "latency"])
def test_another_cost_is_minimised(tmp_path, cost):
    study = run(settings(tmp_path, "search.n_trials=6", f"search.cost={cost}"), FakeEvaluator())
    ran = feasible(study)
    assert ran
    for trial in ran:
        kept = trial.user_attrs["mean_tokens"] / 144
        text = 12 / 144  # n_text is 9, 12 and 15
        expected = {"kv_bytes": (kept + text) / (1 + text), "mean_tokens": kept, "latency": 0.25}[cost]
        assert trial.values[0] == trial.user_attrs["cost"] == pytest.approx(expected)
        assert trial.user_attrs["flops_ratio"] <= 0.5
    assert study.metric_names == [cost, "score"]
    if cost != "latency":
        assert trials_frame(study)["cost"].between(0, 1).all()


def test_the_same_plan_is_answered_once(tmp_path):
    evaluator = FakeEvaluator()
    words = ("policy=fixed", "budget=none", "budget.flops_ratio=1", "search.n_trials=20", "search=random")
    study = run(settings(tmp_path, *words), evaluator)
    same = [t for t in study.trials if "same_as" in t.user_attrs]
    assert len(evaluator.runs) + len(same) == 20
    assert len(evaluator.runs) <= 14  # seven layers, two scorers
    for trial in same:
        first = study.trials[trial.user_attrs["same_as"]]
        assert (trial.params, trial.values, trial.constraints) == (first.params, first.values, first.constraints)


def test_the_same_plan_reports_the_same_blocks(tmp_path):
    evaluator = FakeEvaluator()
    words = ("policy=fixed", "budget=none", "budget.flops_ratio=1", "search.n_trials=20", "search.pruner=null")
    study = run(settings(tmp_path, *BEST, *words), evaluator)
    same = [t for t in study.trials if "same_as" in t.user_attrs]
    assert same
    assert all(t.intermediate_values == study.trials[t.user_attrs["same_as"]].intermediate_values for t in same)


def test_what_is_kept_differs_with_scorer_and_recovery(tmp_path):
    from search.study.planned import planned

    evaluator = FakeEvaluator()
    base = settings(tmp_path, "policy=fixed", "scorer=random").pruner()
    bits = evaluator.complexities(base)

    def key(pruner):
        return planned(pruner, bits, evaluator.geometries).key(pruner)

    others = [
        settings(tmp_path, "policy=fixed", *words).pruner()
        for words in (
            ["scorer=random", "pruner.scorer.seed=1"],
            ["scorer=uniform"],
            ["scorer=random", "pruner.policy.layer=3"],
        )
    ]
    assert len({key(pruner) for pruner in (base, *others)}) == 4
    assert key(dataclasses.replace(base)) == key(base)
