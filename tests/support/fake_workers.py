"""Processes that run a study on the fake evaluator: real ones, that can really be killed."""

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, settings
from optuna.trial import TrialState
from unsynced import unsynced

from search.study import loop, trials
from search.study.journal import JournalFile
from search.study.storage import StudyStorage
from search.study.trials import WORKER

optuna.logging.set_verbosity(optuna.logging.ERROR)

# One server imports what this file imports, torch too; each process is forked from it in milliseconds.
FORK = multiprocessing.get_context("forkserver")
OURS = [name for name in sys.modules if name.startswith(("search.", "autoprune_lab."))]
FORK.set_forkserver_preload(["pytest", "psycopg", *OURS])


@dataclass
class SlowEvaluator(FakeEvaluator):
    """Every run takes `seconds`; with a `gate`, until that file is there."""

    seconds: float = 0.0
    gate: Path | None = None

    def run(self, pruner, after_block=None):
        time.sleep(self.seconds)
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.01)
        return super().run(pruner, after_block)


def work(folder, words, evaluator=None):
    """What `autoprune study` does, on the fake evaluator: create or resume, run what is missing."""
    given = settings(folder, *words)
    place = StudyStorage.of(given.typed)
    study = loop.open_study(place, given.made_of())
    place.exclusively(lambda: loop.enqueue(study, given.baselines))
    loop.run(study, objective(given, evaluator or FakeEvaluator()), given)
    return study


def meet(folder, n, words, folders, rank):
    """`pipeline.join` whose first trial ends when each of `n` workers has one."""
    from search import pipeline
    from search.study import model_evaluator

    run = model_evaluator.ModelEvaluator.run

    def waiting(self, pruner, after_block=None):
        (folder / f"met-{rank}").touch()
        while len(list(folder.glob("met-*"))) < n:
            time.sleep(0.01)
        return run(self, pruner, after_block)

    model_evaluator.ModelEvaluator.run = waiting
    pipeline.join(words, folders, rank)


def launched(folder, words, rank):
    """What a launcher calls."""
    work(folder, words)


def start(folder, words, evaluator=None, act=work, log=None):
    """The same in a process of its own; what it says goes to the file `log`."""
    process = FORK.Process(target=apart, args=(log, act, folder, words, evaluator))
    process.start()
    return process


def apart(log, act, *given):
    """Act in a process that does not wait for the disk either."""
    unsynced()
    if log is not None:
        sys.stderr = log.open("w", buffering=1)
    act(*given)


@functools.cache
def place_of(folder, words):
    """Where the study is; composed once: what waits for a study asks again and again."""
    return StudyStorage.of(settings(folder, *words).typed)


def find(folder, words):
    """The study, if there is one."""
    return loop.existing(place_of(folder, tuple(words)))


def running(folder, words):
    """Its trials that a worker has claimed."""
    study = find(folder, words)
    found = study.get_trials(states=(TrialState.RUNNING,)) if study else []
    return [trial for trial in found if WORKER in trial.user_attrs]


def ended(process, seconds=120):
    """Its exit code; a process that hangs is killed, and fails the test."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        pytest.fail(f"{process.name} hangs")
    return process.exitcode


def until(happened, *processes, seconds=120, step=0.02):
    """What `happened` gives once it is true; fails when one of the processes ends before, or it never comes to pass."""
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        assert all(process.is_alive() for process in processes)
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
            pytest.fail(f"nothing happened within {seconds} s")
        time.sleep(step)
    return result


def kill(process):
    """kill -9."""
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die_at_append(folder, words, evaluator, n, torn):
    """Run the study and die in the n-th write to its journal: half of the line is written, or all of it."""
    append, count = JournalFile.append_logs, 0

    def dying(self, logs):
        nonlocal count
        count += 1
        if count < n:
            return append(self, logs)
        if torn:
            with self.file.open("ab") as stream:
                stream.write(b'{"op_code": 4, "study')
        else:
            append(self, logs)
        os.kill(os.getpid(), signal.SIGKILL)

    JournalFile.append_logs = dying
    work(folder, words)


DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def assert_nothing_lost(study, wanted):
    states = Counter(trial.state for trial in study.trials)
    assert set(states) <= {*DONE, TrialState.FAIL}
    assert sum(states[state] for state in DONE) == wanted == trials.n_ended(study)
    cut_off = [t.number for t in study.trials if t.state == TrialState.FAIL]
    assert sorted(t.user_attrs[trials.RETRY] for t in study.trials if trials.RETRY in t.user_attrs) == cut_off
    by_number = {trial.number: trial for trial in study.trials}
    for trial in study.trials:
        if trials.RETRY in trial.user_attrs and trial.state in DONE:
            assert by_number[trial.user_attrs[trials.RETRY]].params.items() <= trial.params.items()


def done(study):
    """What ended, in order: settings, values, constraint."""
    return [(t.params, t.values, t.state, t.constraints) for t in study.trials if t.state in DONE]
