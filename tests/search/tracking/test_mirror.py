"""MLflow holds a study as one run, its trials as runs below it, each once and whole, whatever went wrong meanwhile."""

import re
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
from fake_evaluator import FakeEvaluator, objective
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow_places import black_hole, composed, held, open_study, ran, refusing
from optuna.trial import TrialState

from search.cli import main
from search.config.errors import ConfigError
from search.results import study_result
from search.results.folder import load_optuna_study
from search.study import loop
from search.study.front import from_study
from search.study.storage import StudyStorage
from search.tracking import background, fields
from search.tracking.background import tracked, turn
from search.tracking.fronts import from_mlflow, studies_in_mlflow
from search.tracking.mirror import Mirror
from search.tracking.settings import MlflowTracking, where

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all studies here: to make one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, uri):
    """A study of 6 trials, then resumed to 12."""
    folder = tmp_path_factory.mktemp("resumed")
    ran(composed(folder, uri, 6))
    study = ran(composed(folder, uri, 12), drawn=True)
    return folder, study, held(uri, study)


def complete(uri, study):
    """Does MLflow hold each ended trial of the study once, ended, with its constraint?"""
    found = held(uri, study)
    assert found.numbers == [trial.number for trial in study.trials if trial.state.is_finished()]
    assert all(run.info.status != "RUNNING" for run in found.children)
    for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
        assert found.trial(trial.number).data.metrics["constraint/bound"] == trial.constraints["bound"]
        assert set(found.trial(trial.number).data.params) == set(trial.params)
    return found


def test_a_resumed_study_goes_on_in_the_same_run(resumed, uri):
    _, study, found = resumed
    assert complete(uri, study).parent.info.run_id == found.parent.info.run_id
    assert found.parent.info.status == "FINISHED"
    assert found.parent.data.params["pruner.policy._target_"] == "policies.fixed.FixedPolicy"


def test_a_trial_has_its_params_metrics_and_reason(resumed):
    _, study, found = resumed
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in study.trials:
        data = found.trial(trial.number).data
        assert float(data.params["pruner.budget.flops_ratio"]) == trial.params["pruner.budget.flops_ratio"]
        assert data.tags["state"] == trial.state.name
        if trial.values:
            assert [data.metrics["flops_ratio"], data.metrics["score"]] == trial.values
            assert data.metrics["score/hard"] == trial.values[1] / 2
        else:
            assert data.tags["refused"] == trial.user_attrs["refused"]


def test_the_run_says_what_the_study_was_made_of(resumed):
    _, study, found = resumed
    tags = found.parent.data.tags
    noted = study.user_attrs["provenance"][-1]
    assert tags["data"] == noted["data"]
    assert tags["version/optuna"] == optuna.__version__
    assert tags.get("mlflow.source.git.commit") == noted.get("commit")


def test_the_hypervolume_rises_trial_by_trial_to_that_of_the_front(resumed):
    _, study, found = resumed
    steps, values = zip(*found.history("hypervolume"), strict=True)
    assert list(steps) == [trial.number for trial in study.trials]
    assert list(values) == sorted(values)
    assert values[-1] == pytest.approx(from_study(study).hypervolume(), abs=1e-12)


def test_front_and_tuned_pruners_are_artifacts(resumed):
    _, study, found = resumed
    assert {"front.csv", "front.json", "front.png", "index.html", "trials.csv", "config.yaml"} <= found.files
    assert {"settings.json", "provenance.json"} <= found.files
    tuned = {item.path for item in found.client.list_artifacts(found.parent.info.run_id, "tuned")}
    assert tuned == {f"tuned/trial-{label}.yaml" for label in from_study(study).labels}


def test_what_the_report_says_is_a_metric_of_the_study_s_run(tmp_path, uri):
    study = ran(composed(tmp_path, uri, 4))
    front = from_study(study)
    scores = [0.9 * score for score in front.scores]
    rows = [
        *(("front", *point) for point in zip(front.labels, [0.5] * 9, front.costs, scores, strict=False)),
        ("fixed", None, 0.5, 0.49, 0.25),
        ("fixed", None, 0.3, 0.29, None),
        ("unpruned", None, None, 1.0, 0.97),
    ]
    table = pd.DataFrame(rows, columns=["arm", "trial", "bound", "flops_ratio", "score"])
    table.assign(low=0.0, high=1.0).to_csv(composed(tmp_path, uri, 4).out / "report.csv", index=False)
    assert main(["sync", str(composed(tmp_path, uri, 4).out)]) == 0
    found = {key: value for key, value in held(uri, study).parent.data.metrics.items() if key.startswith("report/")}
    assert found == {
        "report/hypervolume": pytest.approx(0.9 * front.hypervolume()),
        "report/score_at_0.5": pytest.approx(0.9 * front.scores[-1]),
        "report/fixed_at_0.5": 0.25,
        "report/unpruned": 0.97,
    }


def test_the_front_is_read_back_from_mlflow(tmp_path, uri):
    study = ran(composed(tmp_path, uri, 5, "tracking.experiment=fronts"))
    front, expected = from_mlflow(uri, "s", "fronts"), from_study(study)
    assert front == expected
    assert front.left_out == expected.left_out
    assert studies_in_mlflow(uri, "fronts") == ["s"]
    with pytest.raises(ConfigError, match="no study 'r'; studies: s"):
        from_mlflow(uri, "r", "fronts")
    with pytest.raises(ConfigError, match=r"no experiment 'other'; experiments: .*fronts"):
        from_mlflow(uri, "s", "other")


def test_of_several_studies_of_one_name_the_latest_is_read_back(tmp_path, uri):
    """The latest to begin, in whatever order the server lists them."""
    earlier = ran(composed(tmp_path / "earlier", uri, 2, "tracking.experiment=twice"))
    later = ran(composed(tmp_path / "later", uri, 4, "tracking.experiment=twice", "seed=7"))
    assert from_study(later) != from_study(earlier)
    assert from_mlflow(uri, "s", "twice") == from_study(later)
    client = held(uri, earlier, "twice").client
    place = client.get_experiment_by_name("twice").experiment_id
    client.create_run(place, start_time=1, tags={"kind": "study"}, run_name="s")  # logged last, begun in 1970
    assert from_mlflow(uri, "s", "twice") == from_study(later)


def test_sync_changes_nothing_where_nothing_is_missing(resumed, uri, capsys):
    folder, study, before = resumed
    assert main(["sync", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/s: 0 sent, 12 trials in MLflow: {where(uri)}\n"
    after = complete(uri, study)
    assert after.history("hypervolume") == before.history("hypervolume")
    assert after.parent.info.end_time == before.parent.info.end_time


def test_what_is_moved_together_goes_on_together(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    study = ran(composed(before, f"sqlite:///{before}/m.db", 3), drawn=True)
    whole = held(f"sqlite:///{before}/m.db", study)
    before.rename(after)
    _artifact_repos_cache.clear()  # of this process: another one would begin without
    assert main(["sync", str(after / "s")]) == 0
    uri, study = f"sqlite:///{after}/m.db", load_optuna_study(after / "s")
    found = complete(uri, study)
    assert found.parent.info.run_id == whole.parent.info.run_id
    assert found.files == whole.files
    place = found.client.download_artifacts(found.parent.info.run_id, "front.csv")
    assert found.parent.info.artifact_uri.startswith(after.as_uri())
    assert Path(place).read_bytes() == (after / "s" / "front.csv").read_bytes()
    study = ran(composed(after, uri, 4))
    assert complete(uri, study).numbers == [0, 1, 2, 3]
    assert not before.exists()


def test_a_study_begun_afresh_is_another_run(tmp_path, uri):
    first, second = (ran(composed(tmp_path / name, uri, 2)) for name in ("old", "new"))
    assert complete(uri, first).parent.info.run_id != complete(uri, second).parent.info.run_id


def test_ctrl_c_leaves_whole_runs_and_the_study_goes_on_in_them(tmp_path, uri):
    given = composed(tmp_path, uri, 5)
    study = open_study(given)
    with pytest.raises(KeyboardInterrupt), tracked(study, given) as observers:
        loop.run(study, objective(given, FakeEvaluator(stop_at=1)), given, observers)
    stopped = complete(uri, study)
    assert stopped.parent.info.status == "KILLED"
    assert stopped.children[0].data.tags["state"] == "FAIL"
    study = ran(given)
    assert complete(uri, study).parent.info.status == "FINISHED"


def test_nothing_is_sent_before_a_trial_has_begun(tmp_path, uri, monkeypatch):
    sent = threading.Event()
    monkeypatch.setattr(background, "POLL", 0.02)
    monkeypatch.setattr(Mirror, "send", lambda self, status, going_on: sent.set())
    given = composed(tmp_path, uri, 5)
    study = open_study(given)
    with tracked(study, given):
        assert not sent.wait(0.3)
        study.ask()
        assert sent.wait(10)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("answered", [True, False], ids=["before it was done", "after it was done"])
@pytest.mark.parametrize("request_name", ["create_run", "log_batch", "set_terminated", "log_artifact", "set_tag"])
def test_a_kill_at_any_request_leaves_nothing_twice_and_nothing_half(
    tmp_path, uri, monkeypatch, request_name, answered
):
    from mlflow import MlflowClient

    given = composed(tmp_path, uri, 3)
    study = open_study(given)
    loop.run(study, objective(given, FakeEvaluator()), given)
    study_result.write(study, given.settings)
    target = MlflowTracking(uri, "tests").resolved()
    real = getattr(MlflowClient, request_name)

    for nth in range(3):
        calls = []

        def cut(self, *words, nth=nth, calls=calls, **named):
            calls.append(words)
            if len(calls) > nth and answered:
                raise KilledError
            answer = real(self, *words, **named)
            if len(calls) > nth:
                raise KilledError
            return answer

        mirror = Mirror(study, target, given.out)
        monkeypatch.setattr(MlflowClient, request_name, cut)
        with suppress(KilledError), turn(mirror, 60):
            mirror.send("FINISHED")
        monkeypatch.setattr(MlflowClient, request_name, real)
    mirror = Mirror(study, target, given.out)
    with turn(mirror, 60):
        mirror.send("FINISHED")
    found = complete(uri, study)
    assert found.parent.info.status == "FINISHED"
    assert len(found.parent.data.params) > 30
    assert "front.csv" in found.files


def test_two_who_sync_at_once_send_each_trial_once(tmp_path, uri):
    given = composed(tmp_path, uri, 8)
    study = open_study(given)
    loop.run(study, objective(given, FakeEvaluator()), given)
    study_result.write_config(given.settings)
    target = MlflowTracking(uri, "tests").resolved()

    def send():
        own = loop.existing(StudyStorage.of(given.typed))
        mirror = Mirror(own, target, given.out)
        for _ in range(2):
            with turn(mirror, 60):
                mirror.send("RUNNING")

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    complete(uri, loop.existing(StudyStorage.of(given.typed)))


def test_two_who_take_turns_see_what_the_other_one_sent(tmp_path, uri):
    study = None
    for n in (1, 2, 3):
        given = composed(tmp_path, uri, n)
        study = study or open_study(given)
        loop.run(study, objective(given, FakeEvaluator()), given)
        study_result.write_config(given.settings)
        if n == 1:
            target = MlflowTracking(uri, "tests").resolved()
            mirrors = [Mirror(study, target, given.out) for _ in range(2)]
        for mirror in mirrors:
            with turn(mirror, 60):
                mirror.send("RUNNING")
    complete(uri, study)


def test_a_request_whose_answer_was_lost_is_not_made_twice(tmp_path, uri, monkeypatch):
    from mlflow import MlflowClient

    given = composed(tmp_path, uri, 2)
    study = open_study(given)
    loop.run(study, objective(given, FakeEvaluator()), given)
    study_result.write_config(given.settings)
    mirror = Mirror(study, MlflowTracking(uri, "tests").resolved(), given.out)
    real = MlflowClient.create_run

    def lost(self, *words, **named):
        real(self, *words, **named)
        raise KilledError

    for create_run in (lost, real, lost, real):
        monkeypatch.setattr(MlflowClient, "create_run", create_run)
        with suppress(KilledError), turn(mirror, 60):
            mirror.send("RUNNING", lambda create_run=create_run: create_run is lost or len(mirror.sent) == 0)
    with turn(mirror, 60):
        mirror.send("FINISHED")
    complete(uri, study)


def test_of_two_runs_of_one_trial_one_goes(tmp_path, uri):
    study = ran(composed(tmp_path, uri, 2))
    found = held(uri, study)
    twin = found.trial(0)
    found.client.create_run(twin.info.experiment_id, twin.info.start_time, dict(twin.data.tags))
    assert main(["sync", str(tmp_path)]) == 0
    complete(uri, study)


@pytest.fixture
def stuck(monkeypatch):
    """A server that does not answer until the event is set: whoever waits for it before never comes to the end."""
    answers = threading.Event()

    def wait(self, *given, **named):
        if answers.wait(60):
            raise ConnectionRefusedError

    monkeypatch.setattr(Mirror, "send", wait)
    yield answers
    answers.set()


def test_no_trial_waits_for_a_server_that_does_not_answer(tmp_path, stuck, capfd):
    """All trials end while the first request is still without an answer."""
    answered = []

    def end():
        answered.append(stuck.is_set())
        stuck.set()

    study = ran(composed(tmp_path, f"http://127.0.0.1:{refusing()}", 5), after_trials=end)
    assert answered == [False]
    assert len(study.trials) == 5
    assert "5 trials are not in MLflow yet (connection refused)" in capfd.readouterr().err


def test_the_end_waits_as_long_as_it_is_told_and_no_longer(tmp_path, stuck, monkeypatch, capfd):
    joined, join = [], threading.Thread.join

    def noted(self, timeout=None):
        joined.append((self.name, timeout))
        join(self, 0.01 if self.name == "mlflow" else timeout)

    monkeypatch.setattr(threading.Thread, "join", noted)
    ran(composed(tmp_path, f"http://127.0.0.1:{refusing()}", 2, "tracking.patience=7"))
    assert [timeout for name, timeout in joined if name == "mlflow"] == [7.0]
    assert "2 trials are not in MLflow yet (no more within 7 s)" in capfd.readouterr().err


def test_a_refused_connection_is_told_and_sync_sends_it_all(tmp_path, uri, capfd):
    study = ran(composed(tmp_path, f"http://127.0.0.1:{refusing()}", 5))
    note = f"5 trials are not in MLflow yet (connection refused); autoprune sync {tmp_path}/s sends them"
    assert capfd.readouterr().err.strip().splitlines()[-1] == note
    assert main(["sync", str(tmp_path / "s")]) == 1
    assert note in capfd.readouterr().err
    assert main(["sync", str(tmp_path / "s"), "--uri", uri]) == 0
    assert complete(uri, study).parent.info.status == "FINISHED"


def test_a_server_that_takes_a_connection_and_never_answers_is_told(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with black_hole() as (port, taken):
        ran(composed(tmp_path, f"http://127.0.0.1:{port}", 2))
        assert 1 <= len(taken) <= 3  # tried, and not again and again
    assert "2 trials are not in MLflow yet (no answer in time)" in capfd.readouterr().err


KINDS = (
    "ocr/",
    "a//b",
    "../x",
    ".",
    "How many?",
    "How many!",
    "k" * 300 + "1",
    "k" * 300 + "2",
    "mlflow.user",
)


class KindsBench(FakeEvaluator):
    """A task whose kinds look like paths and questions."""

    def run(self, pruner, after_block=None):
        outcome = super().run(pruner, after_block)
        scores = {kind: outcome.score / n for n, kind in enumerate(KINDS, start=1)}
        return SimpleNamespace(score=outcome.score, flops_ratio=outcome.flops_ratio, by_kind=lambda: scores)


def test_every_kind_has_its_metric_and_sync_repairs_what_could_not_be_sent_before(tmp_path, uri, monkeypatch, capfd):
    with monkeypatch.context() as earlier:
        earlier.setattr(fields, "safe", lambda name: re.sub(r"[^\w\-. :/]", "_", name)[:250])
        study = ran(composed(tmp_path, uri, 3), KindsBench())
        assert "trials are not in MLflow yet" in capfd.readouterr().err
    assert main(["sync", str(tmp_path / "s")]) == 0
    found = complete(uri, study)
    assert found.parent.info.status == "FINISHED"
    ended = study.get_trials(states=(TrialState.COMPLETE,))
    assert ended
    for trial in ended:
        metrics = found.trial(trial.number).data.metrics
        logged = [metrics[fields.safe(f"score/{kind}")] for kind in KINDS]
        assert logged == [trial.values[1] / n for n in range(1, len(KINDS) + 1)]


def test_the_next_run_of_the_study_sends_what_was_left(tmp_path, uri):
    ran(composed(tmp_path, f"http://127.0.0.1:{refusing()}", 3))
    study = ran(composed(tmp_path, uri, 4))
    assert complete(uri, study).numbers == [0, 1, 2, 3]


def test_mlflow_keeps_quiet(tmp_path, uri, capfd):
    ran(composed(tmp_path, uri, 2))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert [line for line in shown.err.splitlines() if "trial" not in line] == []
