"""Studies in SQLite and in PostgreSQL: resumed, shared by workers, and nothing lost when one is killed."""

import os
import signal
import time
from dataclasses import dataclass

import optuna
import postgres
import pytest
from fake_evaluator import FakeEvaluator, settings
from fake_workers import SlowEvaluator, assert_nothing_lost, done, ended, find, kill, running, start, until, work
from optuna.trial import TrialState

from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.study import loop, trials
from search.study.archive import put_aside
from search.study.storage import StudyStorage

BEAT = 2  # seconds; a worker that misses three is taken for dead


@pytest.fixture(scope="module")
def server():
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgres.server(programs) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def words(request, tmp_path):
    """Words that give a study of its own in that kind of database."""
    url = f"sqlite:///{tmp_path}/studies.db" if request.param == "sqlite" else request.getfixturevalue("server").url
    name = tmp_path.name
    return (f"search.storage={url}", f"study={name}", f"search.heartbeat={BEAT}", "search=random")


def test_a_database_gives_the_same_front_as_the_journal_also_when_killed_and_resumed(tmp_path, words):
    rest = ("search.n_trials=8", "search=tpe", "search.sampler.n_startup_trials=3")
    whole = work(tmp_path / "journal", (*rest, "seed=1"))
    process = start(tmp_path / "database", (*words, *rest, "seed=1"), SlowEvaluator(seconds=0.2))
    until(lambda: (s := find(tmp_path, words)) and trials.n_ended(s) >= 3, process)
    kill(process)
    study = work(tmp_path / "database", (*words, *rest, "seed=1"))
    assert_nothing_lost(study, 8)
    assert done(study) == done(whole)


def test_kill_one_of_three_workers_and_another_runs_its_trial_again(tmp_path, words):
    """Each has a folder of its own, as on three hosts: only the heartbeat says who is alive."""
    words = (*words, "search.n_trials=12")
    gate = tmp_path / "gate"
    victim = start(tmp_path / "0", words, SlowEvaluator(gate=gate))
    (claimed,) = until(lambda: running(tmp_path, words), victim)
    others = [start(tmp_path / f"{i}", words, SlowEvaluator(seconds=0.3)) for i in (1, 2)]
    until(lambda: trials.n_ended(find(tmp_path, words)) >= 2, *others)
    kill(victim)
    assert [ended(other) for other in others] == [0, 0]
    study = find(tmp_path, words)
    assert_nothing_lost(study, 12)
    (again,) = [t for t in study.trials if trials.RETRY in t.user_attrs]
    cut_off = study.trials[claimed.number]
    assert again.user_attrs[trials.RETRY] == claimed.number
    assert again.params == cut_off.params
    assert again.user_attrs[trials.WORKER] != cut_off.user_attrs[trials.WORKER]
    assert set(again.constraints) == {"bound"}


def test_a_worker_that_is_silent_for_long_loses_its_trial_and_goes_on(tmp_path, words):
    words, gate = (*words, "search.n_trials=4"), tmp_path / "gate"
    frozen = start(tmp_path / "0", words, SlowEvaluator(gate=gate))
    (claimed,) = until(lambda: running(tmp_path, words), frozen)
    os.kill(frozen.pid, signal.SIGSTOP)
    work(tmp_path / "1", (*words, "search.n_trials=2"))
    gate.touch()
    os.kill(frozen.pid, signal.SIGCONT)
    assert ended(frozen) == 0
    study = find(tmp_path, words)
    assert_nothing_lost(study, 4)
    assert study.trials[claimed.number].state == TrialState.FAIL


@dataclass
class LongBench(FakeEvaluator):
    """One trial that takes many heartbeats."""

    def run(self, pruner, after_block=None):
        time.sleep(4 * BEAT)
        return super().run(pruner, after_block)


def test_a_long_trial_of_a_living_worker_is_never_run_twice(tmp_path, words):
    words = (*words, "search.n_trials=2")
    slow = start(tmp_path / "0", words, LongBench())
    until(lambda: running(tmp_path, words), slow)
    study = work(tmp_path / "1", words)
    assert ended(slow) == 0
    assert_nothing_lost(study, 2)
    assert len(study.trials) == 2


def test_fresh_puts_the_study_in_the_database_aside(tmp_path, words):
    words = (*words, "search.n_trials=2")
    work(tmp_path, words)
    place = StudyStorage.of(settings(tmp_path, *words).typed)
    put_aside(place)
    assert find(tmp_path, words) is None
    assert not place.out.exists()
    assert place.out.with_name(f"{place.name}.old-1").is_dir()
    kept = optuna.load_study(study_name=f"{place.name}.old-1", storage=place.open())
    assert_nothing_lost(kept, 2)


def test_a_study_at_work_is_not_put_aside(tmp_path):
    worker = start(tmp_path, ("search.n_trials=9",), SlowEvaluator(seconds=30))
    until(lambda: running(tmp_path, ()), worker)
    with pytest.raises(ConfigError, match="is being worked on by"):
        put_aside(StudyStorage.of(settings(tmp_path).typed))
    kill(worker)


def test_a_database_that_is_not_there_is_told_in_one_line(tmp_path):
    given = settings(tmp_path, "search.storage=postgresql://me:secret@127.0.0.1:1/x", "search.patience=0")
    place = StudyStorage.of(given.typed)
    with pytest.raises(
        ConfigError, match=r"^search.storage=postgresql://me:\*\*\*@.* cannot be opened: .*refused"
    ) as told:
        loop.existing(place)
    assert "secret" not in str(told.value)


def test_other_databases_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"search.storage=mysql://x/y is none of: null"):
        StudyStorage.of(settings(tmp_path, "search.storage=mysql://x/y").typed)


def test_a_password_is_not_written_into_the_config():
    given = Experiment.compose(["search.storage=postgresql://me:secret@host/x"])
    assert given.typed.search.storage == "postgresql://me:secret@host/x"
    assert given.settings.config["search"]["storage"] == "postgresql://me:***@host/x"
