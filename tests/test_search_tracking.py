"""MLflow holds a study as one run, its trials as runs below it, each once."""

import logging

import pytest
from fake_bench import FakeBench, objective, settings

from search import results
from search import study as studies
from search.tracking import MlflowTracking


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A study of 3 trials, one of them not logged, then resumed to 5 with everything logged."""
    folder = tmp_path_factory.mktemp("tracked")
    uri, artifacts = f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")
    tracking = MlflowTracking(uri, "tests", artifacts)
    words = ("policy=fixed", "seed=2")
    given = settings(folder, *words, "search.n_trials=3")
    study = studies.open_study(given.out, "s", studies.settings_print(given))
    first = tracking.begin(study, given)
    studies.run(study, objective(given, FakeBench()), given, [lambda s, t: first(s, t) if t.number != 1 else None])
    first.end({}, {}, finished=False)
    longer = settings(folder, *words, "search.n_trials=5")
    second = tracking.begin(study, longer)
    studies.run(study, objective(longer, FakeBench()), longer, [second])
    results.write(study, longer)
    results.draw(results.StudyResult.read(longer.out))
    second.end(results.artifacts(longer.out), {"hypervolume": 0.25}, finished=True)
    return study, first, second


def children(run):
    found = run.client.search_runs([run.experiment], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    return {int(child.data.tags["trial"]): child for child in found}, len(found)


def test_a_resumed_study_is_the_same_run(tracked):
    _, first, second = tracked
    assert first.run_id == second.run_id
    parent = second.client.get_run(second.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["pruner.policy._target_"] == "policies.fixed.FixedPolicy"
    assert parent.data.metrics["hypervolume"] == 0.25


def test_every_trial_is_logged_once_also_the_one_that_was_missed(tracked):
    study, _, second = tracked
    by_number, n_found = children(second)
    assert n_found == 5
    assert set(by_number) == {trial.number for trial in study.trials}


def test_a_trial_has_its_params_metrics_and_constraint(tracked):
    study, _, second = tracked
    by_number, _ = children(second)
    for trial in study.trials:
        data = by_number[trial.number].data
        assert float(data.params["pruner.budget.flops_ratio"]) == trial.params["pruner.budget.flops_ratio"]
        assert data.metrics["constraint/bound"] == trial.constraints["bound"]
        assert data.tags["state"] == trial.state.name
        if trial.values:
            assert [data.metrics["flops_ratio"], data.metrics["score"]] == trial.values
            assert data.metrics["score/hard"] == trial.values[1] / 2
        else:
            assert "refused" in data.tags


def test_the_front_is_an_artifact(tracked):
    _, _, second = tracked
    names = {item.path for item in second.client.list_artifacts(second.run_id)}
    assert {"front.csv", "front.json", "front.png", "trials.csv", "config.yaml", "settings.json"} <= names


def test_mlflow_keeps_quiet(tracked):
    assert tracked
    assert logging.getLogger("mlflow").getEffectiveLevel() >= logging.ERROR
