"""kill -9 at any moment loses nothing: every trial is there once, the one that was cut off is run again once."""

import copy
import random
import signal
import time
from functools import partial

import optuna
import pytest
from fake_workers import SlowEvaluator, assert_nothing_lost, die_at_append, done, ended, kill, start, until, work
from optuna.trial import TrialState

from search.study import loop, trials
from search.study.storage import StudyStorage

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def killed_study(folder, words, kills, most):
    """Start the study and kill it at a random moment within so many bytes of its journal, so many times.

    Bytes, for a busy machine makes seconds long; and a random delay, to be somewhere between two writes.
    """
    moments, journal = random.Random(0), folder / "s" / "journal.log"
    for _ in range(kills):
        enough = _size(journal) + moments.randrange(most)
        process = start(folder, words)
        until(lambda process=process, enough=enough: _size(journal) >= enough or not process.is_alive(), step=0.001)
        time.sleep(moments.uniform(0, 0.02))
        kill(process)
    return work(folder, words)


@pytest.mark.parametrize(
    ("kills", "n_trials"), [(8, 30), pytest.param(50, 150, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_kill_9_at_random_moments(tmp_path, kills, n_trials):
    words = (f"search.n_trials={n_trials}", "search.sampler.n_ehvi=5")
    whole = work(tmp_path / "whole", words)
    of_two_trials = 2 * _size(tmp_path / "whole" / "s" / "journal.log") // n_trials
    study = killed_study(tmp_path / "killed", words, kills, of_two_trials)
    assert_nothing_lost(study, n_trials)
    assert done(study) == done(whole)
    assert list((tmp_path / "killed" / "s" / "workers").glob("*.alive")) == []


@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["in turn", "both"])
def test_kill_9_at_every_write(tmp_path, both):
    """After the line is in the journal, or with half of it there: in turn, or both at every write."""
    words = ("policy=fixed", "search.n_trials=2", "seed=2")
    whole = work(tmp_path / "whole", words)
    n_writes = len((tmp_path / "whole" / "s" / "journal.log").read_text().splitlines())
    assert n_writes > 20
    for n in range(1, n_writes + 1):
        for half in (False, True) if both else (n % 2 == 1,):
            folder = tmp_path / f"{n}-{half}"
            assert ended(start(folder, words, act=partial(die_at_append, n=n, torn=half))) == -signal.SIGKILL
            study = work(folder, words)
            assert_nothing_lost(study, 2)
            assert done(study) == done(whole)
            assert study.metric_names == whole.metric_names


def test_a_killed_writer_holds_nobody_up(tmp_path, monkeypatch):
    """Its lock has gone with it: nobody sleeps until it may be thought dead, nobody tries twice."""
    words = ("search.n_trials=3",)
    assert ended(start(tmp_path, words, act=partial(die_at_append, n=12, torn=True))) == -signal.SIGKILL
    sleeps = []
    monkeypatch.setattr(time, "sleep", sleeps.append)
    loop.existing(StudyStorage(tmp_path / "s", "s")).set_user_attr("note", 1)
    assert loop.existing(StudyStorage(tmp_path / "s", "s")).user_attrs["note"] == 1
    assert sleeps == []


def test_a_living_worker_keeps_its_trial_and_a_dead_one_does_not(tmp_path):
    words, gate = ("search.n_trials=3", "search=random"), tmp_path / "gate"
    blocked = start(tmp_path, words, SlowEvaluator(gate=gate))
    running = until(lambda: _running(tmp_path), blocked)
    other = start(tmp_path, words)  # by accident, the same command
    until(lambda: _ended(tmp_path) >= 2, other)
    study = loop.existing(StudyStorage(tmp_path / "s", "s"))
    assert [t.number for t in study.trials if t.state == TrialState.RUNNING] == running
    assert [t for t in study.trials if trials.RETRY in t.user_attrs] == []
    assert other.is_alive()  # it waits: the last trial may have to be run again
    kill(blocked)
    assert ended(other) == 0
    assert_nothing_lost(study, 3)
    assert [t.user_attrs[trials.RETRY] for t in study.trials if trials.RETRY in t.user_attrs] == running


def test_three_workers_share_a_study_and_one_dies(tmp_path):
    words = ("search.n_trials=24", "search=random")
    workers = [start(tmp_path, words, SlowEvaluator(seconds=0.1)) for _ in range(3)]
    until(lambda: _ended(tmp_path) >= 6, *workers)
    kill(workers[0])
    assert [ended(worker) for worker in workers[1:]] == [0, 0]
    study = loop.existing(StudyStorage(tmp_path / "s", "s"))
    assert_nothing_lost(study, 24)
    alone = work(tmp_path / "alone", words)
    key = lambda trial: str(sorted(trial[0].items()))  # noqa: E731
    assert sorted(done(study), key=key) == sorted(done(alone), key=key)  # the order apart, random search is the same
    assert len({t.user_attrs[trials.WORKER] for t in study.trials}) == 3


def test_a_trial_that_ends_while_the_trials_are_counted_counts_once(monkeypatch):
    study = optuna.create_study()
    trial = study.ask()
    look = study.get_trials

    def look_just_before_it_ends(**how):
        found = copy.deepcopy(look(**how))
        if look(deepcopy=False)[0].state == TrialState.RUNNING:
            study.tell(trial, state=TrialState.PRUNED)
        return found

    monkeypatch.setattr(study, "get_trials", look_just_before_it_ends)
    assert trials.n_begun(study) == 1
    assert trials.n_begun(study) == 1


def _running(folder):
    study = loop.existing(StudyStorage(folder / "s", "s"))
    found = study.get_trials(states=(TrialState.RUNNING,)) if study else []
    return [trial.number for trial in found if trials.WORKER in trial.user_attrs]


def _ended(folder):
    study = loop.existing(StudyStorage(folder / "s", "s"))
    return trials.n_ended(study) if study else 0


def _size(file):
    return file.stat().st_size if file.exists() else 0
