"""Processes that run a study on the fake bench: real ones, that can really be killed."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from fake_bench import FakeBench, objective, settings
from optuna.storages.journal import JournalFileBackend

from search import study as studies
from search.place import Place
from search.space import Space

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


def launched(folder, words, rank):
    """What a launcher calls."""
    work(folder, words)


def start(folder, words, bench=None):
    """The same in a process of its own."""
    process = FORK.Process(target=work, args=(folder, words, bench))
    process.start()
    return process


def kill(process):
    """kill -9."""
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die_at_append(folder, words, n, torn):
    """Run the study and die in the n-th write to its journal: half of the line is written, or all of it."""
    append, count = JournalFileBackend.append_logs, 0

    def dying(self, logs):
        nonlocal count
        count += 1
        if count < n:
            return append(self, logs)
        if torn:
            with open(self._file_path, "ab") as stream:
                stream.write(b'{"op_code": 4, "study')
        else:
            append(self, logs)
        os.kill(os.getpid(), signal.SIGKILL)

    JournalFileBackend.append_logs = dying
    os.fsync = lambda file: None
    work(folder, words)
