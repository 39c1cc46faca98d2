"""A database that does not answer: waited for, told once, and nothing done twice or lost when it is back."""

import re
import sqlite3
import time
from functools import partial

import optuna
import postgres
import psycopg
import pytest
from fake_evaluator import quick, settings
from fake_workers import SlowEvaluator, assert_nothing_lost, done, ended, find, running, start, until, work
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from search.cli import main
from search.study import loop, model_evaluator, trials
from search.study.outages import Patience, PatientStorage, StorageError
from search.study.storage import StudyStorage


class Clock:
    """Time that passes only where somebody pauses."""

    def __init__(self):
        self.seconds, self.pauses = 0.0, []

    def now(self):
        return self.seconds

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.seconds += seconds


def failing(times, answer="answer", said="Connection refused"):
    """A question that fails so many times."""
    rest = iter(range(times))

    def question():
        if next(rest, None) is not None:
            raise OperationalError("SELECT", {}, psycopg.OperationalError(said))
        return answer

    return question


@pytest.fixture
def patience():
    clock = Clock()
    return Patience("the database", 60, clock.now, clock.pause), clock


def test_an_answer_at_once_is_given_without_a_word(patience, capsys):
    waiting, clock = patience
    assert waiting.ask(failing(0)) == "answer"
    assert clock.pauses == []
    assert capsys.readouterr().err == ""


def test_an_outage_is_told_when_it_begins_and_when_it_ends(patience, capsys):
    waiting, clock = patience
    assert waiting.ask(failing(8)) == "answer"
    assert clock.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("autoprune: the database does not answer (Connection refused); waiting for it at most 60 s")
    assert last == "autoprune: the database answers again after 9 s"


def test_after_the_limit_it_is_an_error_and_nobody_waits_again_until_there_is_an_answer(patience, capsys):
    waiting, clock = patience
    with pytest.raises(StorageError, match=r"opened: Connection refused; .* 60 s .* the same command goes on"):
        waiting.ask(failing(10**6))
    assert 58 <= clock.seconds <= 60
    with pytest.raises(StorageError):
        waiting.ask(failing(1))
    assert 58 <= clock.seconds <= 60
    assert waiting.ask(failing(0)) == "answer"
    assert waiting.ask(failing(1)) == "answer"
    assert capsys.readouterr().err.count("does not answer") == 1


def test_a_heartbeat_that_fails_ends_nobody(patience):
    waiting, _ = patience
    with pytest.raises(StorageError):
        waiting.ask(failing(10**6), is_last=False)
    assert waiting.ask(failing(1)) == "answer"


def test_no_patience_is_no_wait(capsys):
    clock = Clock()
    with pytest.raises(StorageError):
        Patience("the database", 0, clock.now, clock.pause).ask(failing(1))
    assert clock.pauses == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.OperationalError("FATAL:  the database system is starting up"), True),
        (psycopg.OperationalError('FATAL:  password authentication failed for user "me"'), False),
        (psycopg.OperationalError('FATAL:  database "x" does not exist'), False),
        (psycopg.OperationalError("failed to resolve host 'nowhere': [Errno -2] Name or service not known"), False),
        (psycopg.errors.AdminShutdown("terminating connection"), True),
        (psycopg.errors.TooManyConnections("sorry"), True),
        (psycopg.errors.DiskFull("no space"), False),
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.OperationalError("database or disk is full"), False),
        (sqlite3.OperationalError("attempt to write a readonly database"), False),
        (sqlite3.OperationalError("unable to open database file"), False),
    ],
    ids=str,
)
def test_only_what_passes_is_waited_for(patience, error, passes):
    waiting, clock = patience
    errors = [OperationalError("SELECT", {}, error)]

    def question():
        if errors:
            raise optuna.exceptions.StorageInternalError("during the commit") from errors.pop()

    if passes:
        waiting.ask(question)
        assert clock.pauses == [0.1]
    else:
        with pytest.raises(StorageError, match="the database cannot be used: "):
            waiting.ask(question)
        assert clock.pauses == []


def test_errors_that_are_no_databases_pass_through(patience):
    waiting, clock = patience
    with pytest.raises(KeyError):
        waiting.ask({}.popitem)
    assert clock.pauses == []


def test_a_locked_sqlite_file_is_waited_for_and_nothing_is_done_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("search.study.storage.SQLITE_BUSY", {"timeout": 0})
    words = (f"search.storage=sqlite:///{tmp_path}/s.db", "search.n_trials=3", "search=random")
    whole = work(tmp_path / "whole", words[1:])
    work(tmp_path, (*words, "search.n_trials=1"))
    with sqlite3.connect(tmp_path / "s.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        pauses = []

        def pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                other.execute("COMMIT")
            elif len(pauses) > 3:  # with no timeout, its own heartbeat may be in the way
                time.sleep(seconds)

        place = StudyStorage.of(settings(tmp_path, *words).typed)
        monkeypatch.setattr(place._waiting, "pause", pause)
        study = work(tmp_path, words)
    other.close()
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert done(study) == done(whole)
    assert_nothing_lost(study, 3)
    said = capsys.readouterr().err
    assert "does not answer (database is locked); waiting for it at most 90 s (search.patience)" in said
    assert "answers again" in said


@pytest.fixture(scope="module")
def server():
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server(programs) as running:
        yield running


def words_of(server, tmp_path, *words):
    return (f"search.storage={server.url}", f"study={tmp_path.name}", "search=random", *words)


def cut(server):
    """Cut every connection, as a restart does."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def cut_at(monkeypatch, is_cut):
    """Cut connections at some of the operations: before one is done, or after it, so that its answer is lost."""
    ask, count = PatientStorage._ask, 0

    def asked(self, name, question):
        tries = 0

        def cut_off():
            nonlocal count, tries
            count += 1
            tries += 1
            when = is_cut(count) if tries == 1 else None
            if when == "before":
                cut.server()
            answer = question()
            if when == "after":
                cut.server()
                raise OperationalError(name, {}, psycopg.OperationalError("server closed the connection unexpectedly"))
            return answer

        return ask(self, name, cut_off)

    monkeypatch.setattr(PatientStorage, "_ask", asked)
    return lambda: count


EVERY = 41  # longer than a section, or none would come to its end
SLOW = [pytest.param(begin, marks=pytest.mark.slow) for begin in range(5, EVERY, 5)]


@pytest.mark.parametrize("begin", [0, *SLOW])
def test_connections_that_are_cut_at_any_operation_change_nothing(server, tmp_path, monkeypatch, begin):
    """One operation in so many is cut, in turn before and after it was done, in sections and outside."""
    baseline = "search.baselines=[{pruner.budget.flops_ratio: 0.4}]"
    words = ("search.n_trials=4", "search=random", baseline, "policy=fixed")
    whole = work(tmp_path / "whole", words)
    monkeypatch.setattr(cut, "server", partial(cut, server), raising=False)
    n = cut_at(
        monkeypatch, lambda i: ("before", "after")[i // EVERY % 2] if i % EVERY == begin and i < 40 * EVERY else None
    )
    study = work(tmp_path, words_of(server, tmp_path, *words))
    assert n() >= 2 * EVERY + begin  # once before and once after
    monkeypatch.undo()
    assert done(study) == done(whole)
    assert_nothing_lost(study, 4)


def test_a_worker_whose_database_restarts_goes_on(server, tmp_path):
    words = words_of(server, tmp_path, "search.n_trials=4")
    gate, log = tmp_path / "gate", tmp_path / "log"
    worker = start(tmp_path, words, SlowEvaluator(gate=gate), log=log)
    until(lambda: running(tmp_path, words), worker)
    server.stop("fast")
    try:
        gate.touch()
        until(log.read_text, worker)
    finally:
        server.start()
    assert ended(worker) == 0
    first, last = log.read_text().splitlines()
    assert " does not answer (" in first
    assert " answers again after " in last
    study = find(tmp_path, words)
    assert_nothing_lost(study, 4)
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 0


def test_after_a_long_outage_the_command_ends_in_one_line_and_goes_on_at_once(
    server, tmp_path, checkpoint, monkeypatch, capfd
):
    """Its own trial, which it could not give back, is free without a heartbeat being waited for."""
    words = words_of(server, tmp_path, "search.n_trials=3", "search.patience=0", f"folder={tmp_path}")
    argv = ["study", *quick(checkpoint, *words)]
    run, ran = model_evaluator.ModelEvaluator.run, []

    def stop_in_second(self, pruner, after_block=None):
        ran.append(pruner)
        if len(ran) == 2:
            server.stop()
        return run(self, pruner, after_block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_evaluator.ModelEvaluator, "run", stop_in_second)
        try:
            assert main(argv) == 2
        finally:
            server.start()
    *told, line = capfd.readouterr().err.splitlines()
    assert all(re.fullmatch(r"[\d :-]+ \w+: trial \d/3.*", one) for one in told), told
    assert line.startswith(f"autoprune: search.storage={server.url} cannot be opened: ")
    assert line.endswith("No trial that ended is lost: when it is back, the same command goes on")
    monkeypatch.setattr(loop.time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert main(argv) == 0
    study = find(tmp_path, words)
    assert_nothing_lost(study, 3)
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 1


def test_a_worker_that_waits_for_the_last_trials_says_for_whom(tmp_path):
    words, gate, log = ("search.n_trials=1",), tmp_path / "gate", tmp_path / "log"
    blocked = start(tmp_path, words, SlowEvaluator(gate=gate))
    (claimed,) = until(lambda: running(tmp_path, words), blocked)
    other = start(tmp_path, words, act=_impatient, log=log)
    until(lambda: log.exists() and log.read_text(), blocked, other)
    gate.touch()
    assert [ended(blocked), ended(other)] == [0, 0]
    worker = claimed.user_attrs[trials.WORKER]
    assert log.read_text() == f"autoprune: s: no trial is left to begin; waiting for the last ones, of {worker}\n"


def test_a_lock_that_another_one_holds_is_told(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("search.study.storage.LOCKED", 0.01)
    place = StudyStorage.of(settings(tmp_path, *words_of(server, tmp_path)).typed)
    say = print

    def told(*words, **named):
        say(*words, **named)
        holder.__exit__(None, None, None)

    holder = place.exclusive()
    holder.__enter__()
    monkeypatch.setattr("search.study.storage.print", told, raising=False)
    with place.exclusive():
        pass
    said = capsys.readouterr().err
    assert said == f"autoprune: waiting for another worker of '{tmp_path.name}', who holds its lock\n"


def _impatient(folder, words, evaluator):
    """Looks soon enough for a test."""
    loop.LAST_ONES = 0.01
    work(folder, words, evaluator)
