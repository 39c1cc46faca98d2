"""The parts of logging that need no study in MLflow; its database as it is made, by one or by four at once."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow_places
import numpy as np
import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, refused, settings
from fake_workers import ended
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation
from mlflow_places import composed, held, open_study
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import Engine

from autoprune_lab.tasks.base import Sample
from search.config.errors import ConfigError
from search.results import provenance
from search.results.folder import load_optuna_study
from search.results.study_result import write_config
from search.study import loop
from search.study.archive import put_aside
from search.study.storage import StudyStorage
from search.tracking import client, fields
from search.tracking.settings import MlflowTracking, begin, noted, where

RANGE = optuna.distributions.FloatDistribution(0, 1)


def study_of(*trials, directions=("minimize", "maximize")):
    """A study with trials (state, values)."""
    study = optuna.create_study(directions=directions)
    for state, values in trials:
        study.add_trial(create_trial(state=state, values=values))
    return study


def all_within_the_bound(monkeypatch, study):
    monkeypatch.setattr(fields, "is_feasible", lambda trial: trial.state == TrialState.COMPLETE)
    return study


def test_progress_waits_for_the_first_trial_that_has_not_ended(monkeypatch):
    points = [[0.5, 0.5], [0.25, 0.4]]
    trials = [(TrialState.COMPLETE, points[0]), (TrialState.RUNNING, None), (TrialState.COMPLETE, points[1])]
    study = all_within_the_bound(monkeypatch, study_of(*trials))
    assert [(n, measured["hypervolume"]) for n, _, measured in fields.Progress(study).after()] == [(0, 0.25)]
    study.tell(1, state=TrialState.FAIL)
    steps = [(n, measured["hypervolume"]) for n, _, measured in fields.Progress(study).after()]
    assert steps == [(0, 0.25), (1, 0.25), (2, pytest.approx(0.35))]
    assert [n for n, _, _ in fields.Progress(study).after(1)] == [2]
    moments = [moment for _, moment, _ in fields.Progress(study).after()]
    assert moments == sorted(moments)  # trial 1 ended last


def test_a_study_with_one_objective_has_a_best_value(monkeypatch):
    trials = [(TrialState.COMPLETE, [value]) for value in (0.3, 0.7, 0.5)]
    study = all_within_the_bound(monkeypatch, study_of(*trials, directions=["maximize"]))
    assert [measured["best/score"] for _, _, measured in fields.Progress(study).after()] == [0.3, 0.7, 0.7]
    assert fields.TrialFields.of(study, study.trials[1]).metrics == {"score": 0.7}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_study_names_its_metrics():
    study = study_of((TrialState.COMPLETE, [0.5, 0.6]))
    study.set_metric_names(["kv_bytes", "score"])
    assert fields.TrialFields.of(study, study.trials[0]).metrics == {"kv_bytes": 0.5, "score": 0.6}


def test_names_that_mlflow_would_refuse_are_made_safe():
    trial = create_trial(
        values=[0.5, 0.5], params={"a[0]": 0.5}, distributions={"a[0]": RANGE}, user_attrs={"score/is it (red)?": 0.5}
    )
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(trial)
    found = fields.TrialFields.of(study, study.trials[0])
    assert set(found.params) == {"a_0_-7173d85afe"}  # pinned: a later version must find what an earlier one logged
    assert set(found.metrics) == {"flops_ratio", "score", "score/is it _red__-5f779a1c2d"}


NEAR = st.text(st.sampled_from("aAé_-. :/?\0\n\ud800"), max_size=12)  # where the rules are
ANY = st.text(st.characters(exclude_categories=[]), max_size=300) | NEAR | NEAR.map(lambda name: 249 * "x" + name)


def is_taken(name):
    """Does MLflow itself take the name, of a metric, a param and a tag?"""
    with suppress(MlflowException):
        validation._validate_metric(name, 0.5, 0, 0)
        validation._validate_param(name, "value")
        validation._validate_tag(name, "value")
        return not name.endswith("\n")  # its expressions end in $
    return False


@given(ANY)
def test_every_name_becomes_one_that_mlflow_takes_and_one_that_it_takes_stays(name):
    safe = fields.safe(name)
    assert is_taken(safe)
    assert len(safe.encode()) <= 4 * 250
    assert (safe == name) == is_taken(name)


@given(ANY, ANY)
def test_names_that_differ_stay_different_also_where_case_does_not_count(one, other):
    if one not in (other, fields.safe(other)) and other != fields.safe(one):
        assert fields.safe(one) != fields.safe(other)
        if not is_taken(one) or not is_taken(other):
            assert fields.safe(one).lower() != fields.safe(other).lower()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many?", "How many!"),
        ("k" * 300 + "1", "k" * 300 + "2"),
        ("ocr/", "ocr"),
        ("a//b", "a/b"),
        ("Yes?", "yes?"),
    ],
)
def test_kinds_that_look_alike_keep_a_metric_each(one, other):
    assert fields.safe(f"score/{one}") != fields.safe(f"score/{other}")


def test_a_trials_own_tags_are_not_overwritten_by_its_notes():
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(create_trial(values=[0.5, 0.5], user_attrs={"trial": "x", "state": "y", "note": "a\ud800\0b"}))
    tags = fields.TrialFields.of(study, study.trials[0]).tags
    assert tags == {"kind": "trial", "trial": "0", "state": "COMPLETE", "note": "a?\ufffdb"}


ASKED = Sample("a", (), "which colour?", ("red",), "attribute")


@pytest.mark.parametrize("other", [{"id": "b"}, {"question": "which shape?"}, {"answers": ("red", "blue")}])
def test_the_fingerprint_changes_with_id_question_and_answers(other):
    changed = replace(ASKED, **other)
    assert provenance.fingerprint([ASKED]) == provenance.fingerprint([replace(ASKED)])
    assert provenance.fingerprint([ASKED]) != provenance.fingerprint([changed])
    assert provenance.fingerprint([ASKED, changed]) != provenance.fingerprint([changed, ASKED])


def test_the_commit_is_that_of_the_code_else_of_the_folder(tmp_path, monkeypatch):
    def git(*words):
        named = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", str(tmp_path), *named, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    (tmp_path / "policy.py").write_text("")
    monkeypatch.setattr(provenance.policy, "__file__", str(tmp_path / "nowhere" / "policy.py"))
    assert provenance.commit(tmp_path) == {}
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert provenance.commit(tmp_path) == {"commit": head, "changed": False}
    (tmp_path / "policy.py").write_text("changed")
    assert provenance.commit(tmp_path) == {"commit": head, "changed": True}
    monkeypatch.setattr(provenance.policy, "__file__", str(tmp_path / "policy.py"))
    assert provenance.commit(tmp_path.parent) == {"commit": head, "changed": True}


def test_a_note_is_added_only_when_something_changed(tmp_path, monkeypatch):
    given = settings(tmp_path, "policy=fixed", "task.per_kind=1")
    study = open_study(given)
    for _ in range(2):
        provenance.note_provenance(study, given.task.samples())
    assert len(study.user_attrs["provenance"]) == 1
    monkeypatch.setattr(provenance, "versions", lambda packages: {"torch": "0.0"})
    provenance.note_provenance(study, given.task.samples())
    assert [note["packages"].get("torch") for note in study.user_attrs["provenance"]][1] == "0.0"
    assert provenance.tags_of(study.user_attrs["provenance"])["version/torch"] == "0.0"


def test_a_sqlite_file_is_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = MlflowTracking("sqlite:///runs/m.db").resolved()
    assert found.database == tmp_path / "runs" / "m.db"
    assert found.artifacts == str(tmp_path / "runs" / "m-artifacts")
    assert MlflowTracking("http://host:5000", artifacts="runs/files").resolved().artifacts is None


def test_it_is_said_where_the_runs_are():
    assert where("sqlite:///runs/m.db") == "mlflow ui --backend-store-uri sqlite:///runs/m.db"
    assert where("http://host:5000") == "http://host:5000"


@pytest.mark.parametrize(
    ("word", "says"),
    [("tracking.uri=htp://host", "uri=htp://host"), ("tracking.patience=-1", "patience=-1")],
)
def test_a_mistake_is_refused_before_anything_is_written(here, capsys, no_model, checkpoint, word, says):
    refused(["study", f"model.path={checkpoint}", f"folder={here}/runs", word], ["tracking", says], capsys, here)


def test_sync_refuses_what_is_no_study_and_what_was_not_logged(tmp_path, capsys):
    refused(["sync", str(tmp_path)], ["neither a study's folder nor a folder of studies"], capsys, tmp_path)
    given = settings(tmp_path, "policy=fixed", "search.n_trials=1")
    study = open_study(given)
    write_config(given.settings)
    loop.run(study, objective(given, FakeEvaluator()), given)
    refused(["sync", str(tmp_path / "s")], ["was not logged anywhere", "--uri"], capsys, tmp_path)
    with pytest.raises(ConfigError, match="is no MLflow tracking URI"):
        MlflowTracking("runs/mlflow.db")


def test_passwords_are_written_nowhere(tmp_path):
    uri = "http://me:secret@host:5000"
    given = composed(tmp_path, uri, 1, "search.storage=null")
    study = open_study(given)
    begin(study, MlflowTracking(uri).resolved(), given.out)
    write_config(given.settings)
    assert "secret" not in (tmp_path / "s" / "config.yaml").read_text()
    assert "secret" not in (tmp_path / "s" / "journal.log").read_text()
    assert "secret" not in where(uri)
    assert "secret" not in client.reason(RuntimeError(f"{uri} said no"))


def test_files_are_noted_by_the_way_from_the_study_s_folder(tmp_path):
    (tmp_path / "here").mkdir()
    given = composed(tmp_path / "here", "sqlite:///unused.db", 1)
    study = open_study(given)
    begin(study, MlflowTracking(f"sqlite:///{tmp_path}/here/m.db").resolved(), given.out)
    assert str(tmp_path) not in str(study.user_attrs["tracking"])
    found = MlflowTracking(**noted(study, tmp_path / "there" / "s"))
    assert found.database == tmp_path / "there" / "m.db"
    assert found.artifacts == str(tmp_path / "there" / "m-artifacts")
    study.set_user_attr("tracking", {"uri": "sqlite:////once/m.db", "experiment": "e", "artifacts": "/once/files"})
    assert noted(study, tmp_path) == study.user_attrs["tracking"]  # as it was written before


def test_sync_finds_the_study_of_a_folder_put_aside(tmp_path):
    given = settings(tmp_path, "policy=fixed", "search.n_trials=1", f"search.storage=sqlite:///{tmp_path}/all.db")
    place = StudyStorage.of(given.typed)
    first = loop.open_study(place, given.made_of())
    first.set_user_attr("which", "first")
    write_config(given.settings)
    put_aside(place)
    loop.open_study(place, given.made_of()).set_user_attr("which", "second")
    write_config(given.settings)
    assert load_optuna_study(tmp_path / "s.old-1").user_attrs["which"] == "first"
    assert load_optuna_study(tmp_path / "s").user_attrs["which"] == "second"


def make_and_die(database, n):
    """Make MLflow's database and die before the n-th thing that is asked of SQLite."""
    count = 0

    def one_more(*given):
        nonlocal count
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", one_more)
    event.listen(Engine, "commit", one_more)
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    os.fsync = one_more  # a killed process takes nothing from the kernel: nobody has to wait for the disk
    client.connect(MlflowTracking(f"sqlite:///{database}").resolved())
    (database.parent / "count").write_text(str(count))


def died(database, n=None):
    """Did it, in a process of its own, that is forked from this one since MLflow takes seconds to import?"""
    process = multiprocessing.get_context("fork").Process(target=make_and_die, args=(database, n))
    process.start()
    return ended(process) == -signal.SIGKILL


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)], ids=["few", "many"])
def test_kill_9_while_mlflow_makes_its_database_leaves_nothing_that_cannot_be_opened(tmp_path, kills):
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401

    client.prepare()
    (tmp_path / "whole").mkdir()
    assert not died(tmp_path / "whole" / "mlflow.db")
    n_steps = int((tmp_path / "whole" / "count").read_text())
    assert n_steps > 300
    for n in np.linspace(2, n_steps, kills, dtype=int):
        folder = tmp_path / (str(n) if kills > 3 else "one")
        folder.mkdir(exist_ok=True)
        assert died(folder / "mlflow.db", int(n))
        if kills > 3 or n == n_steps:
            target = MlflowTracking(f"sqlite:///{folder}/mlflow.db").resolved()
            opened, experiment = client.connect(target)
            assert opened.create_run(experiment).info.status == "RUNNING"
            assert {file.name for file in folder.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_a_database_that_somebody_else_made_meanwhile_is_kept(tmp_path, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    def slow(uri, artifacts):
        Path(uri.removeprefix("sqlite:///")).write_text("ours")
        (tmp_path / "mlflow.db").write_text("theirs")
        return SimpleNamespace(engine=SimpleNamespace(dispose=lambda: None))

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", slow)
    client.make(tmp_path / "mlflow.db", "artifacts")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("table", ["", "CREATE TABLE alembic_version (version_num)"], ids=["no table", "no revision"])
def test_a_database_that_was_cut_off_before_is_told_in_one_line_and_not_touched(tmp_path, table):
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE _alembic_tmp_runs (id)")
        connection.execute(table)
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(ConfigError, match=r"mlflow.db was cut off when it was made.*delete it, or .*mlflow db upgrade"):
        client.connect(MlflowTracking(f"sqlite:///{database}").resolved())
    assert database.read_bytes() == before


CODE = """
import sys
sys.path.insert(0, {tests!r})
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
from pathlib import Path
from mlflow_places import composed, ran
ran(composed(Path({folder!r}), {uri!r}, 3, "tracking.patience=500", "study=s{rank}"))
"""


@pytest.mark.slow
def test_four_studies_may_be_the_first_to_use_a_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tests = str(Path(mlflow_places.__file__).parent)
    codes = [CODE.format(tests=tests, folder=str(tmp_path), uri=uri, rank=rank) for rank in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for code in codes]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert not any("not in MLflow" in error for error in errors)
    for rank in range(4):
        study = loop.existing(StudyStorage(tmp_path / f"s{rank}", f"s{rank}"))
        assert held(uri, study).numbers == [0, 1, 2]
