"""Processes that run a study on the fake bench: real ones, that can really be killed."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from fake_bench import FakeBench, objective, settings
from optuna.trial import TrialState

from search import study as studies
from search.journal import JournalFile
from search.place import Place
from search.space import Space
from search.trials import WORKER

optuna.logging.set_verbosity(optuna.logging.ERROR)

# One server imports what this file imports, torch too; each process is forked from it in milliseconds.
FORK = multiprocessing.get_context("forkserver")
OURS = [name for name in sys.modules if name.startswith(("search.", "autoprune_lab."))]
FORK.set_forkserver_preload(["pytest", "psycopg", *OURS])


@dataclass
class SlowBench(FakeBench):
    """Every run takes `seconds`; with a `gate`, until that file is there."""

    seconds: float = 0.0
    gate: Path | None = None

    def run(self, pruner, after_block=None):
        time.sleep(self.seconds)
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.01)
        return super().run(pruner, after_block)


def work(folder, words, bench=None):
    """What `autoprune study` does, on the fake bench: create or resume, run what is missing."""
    given = settings(folder, *words)
    place = Place.of(given)
    study = studies.open_study(
        place.out, place.name, studies.settings_print(given), place.url, place.heartbeat, place.patience
    )
    space = Space.from_config(given.config)
    baselines = [space.complete(baseline, given.config, "b") for baseline in given.typed.search.baselines]
    place.alone(lambda: studies.enqueue(study, baselines))
    studies.run(study, objective(given, bench or FakeBench()), given)
    return study


def meet(folder, n, words, rank):
    """`workers.join` whose first trial ends when each of `n` workers has one."""
    from search import bench, workers

    run = bench.ModelBench.run

    def waiting(self, pruner, after_block=None):
        (folder / f"met-{rank}").touch()
        while len(list(folder.glob("met-*"))) < n:
            time.sleep(0.01)
        return run(self, pruner, after_block)

    bench.ModelBench.run = waiting
    workers.join(words, rank)


def launched(folder, words, rank):
    """What a launcher calls."""
    work(folder, words)


def start(folder, words, bench=None, act=work, log=None):
    """The same in a process of its own; what it says goes to the file `log`."""
    process = FORK.Process(target=unsynced, args=(log, act, folder, words, bench))
    process.start()
    return process


def unsynced(log, act, *given):
    """Act without waiting for the disk: what a killed process has written stays in the kernel's hands."""
    os.fsync = lambda file: None
    if log is not None:
        sys.stderr = log.open("w", buffering=1)
    act(*given)


def find(folder, words):
    """The study, if there is one."""
    place = Place.of(settings(folder, *words))
    return studies.existing(place.out, place.name, place.url)


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


def die_at_append(folder, words, bench, n, torn):
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
