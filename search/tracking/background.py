"""Sends a study's trials to MLflow from a thread of its own: the study never waits for it, but at its end, and briefly.

What waits is what the study has and MLflow has not; it needs no file, and survives every kill.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import filelock
import optuna
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.tasks.base import Sample
from search.config.experiment import Experiment
from search.results.provenance import note_provenance
from search.results.study_result import write_config
from search.study.trials import Observer
from search.tracking import client
from search.tracking.mirror import Mirror
from search.tracking.settings import FINISHED, RUNNING, STATUS, STOPPED, MlflowTracking, begin

LOCK = "mlflow.lock"
POLL = 2.0  # seconds between two looks for trials of other processes
PAUSE = 30.0  # seconds before a server that failed is asked again
HURRY = 5.0  # seconds that Ctrl-C may be kept waiting
Samples = Callable[[], Sequence[Sample]]


@contextmanager
def tracked(study: optuna.Study, experiment: Experiment) -> Iterator[list[Observer]]:
    """While it is open, the study's trials are logged, those of other processes too. Yields observers, which return
    at once; at the end one line on stderr says what could not be logged. No tracking: no observers.
    """
    write_config(experiment.settings)
    if experiment.tracking is None:
        yield []
        return
    target: MlflowTracking = experiment.tracking.resolved()
    begin(study, target, experiment.out)
    mirror = BackgroundMirror(study, target, experiment.out, experiment.task.samples)
    status = STOPPED
    try:
        yield [mirror.wake]
        status = FINISHED
    finally:
        try:
            study.set_user_attr(STATUS, status)
        finally:
            if note := mirror.close(status, target.patience if status == FINISHED else min(HURRY, target.patience)):
                print(f"\n{note}", file=sys.stderr)


class BackgroundMirror:
    """An open study's trials on their way to MLflow. Nothing here raises into the study."""

    def __init__(self, study: optuna.Study, target: MlflowTracking, folder: Path, samples: Samples) -> None:
        client.prepare()
        self.mirror = Mirror(study, target, folder)
        self._samples, self._status = samples, RUNNING
        self._problem: str | None = None
        self._woken, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def wake(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """An observer: a trial has ended. Returns at once."""
        self._woken.set()

    def close(self, status: str, patience: float) -> str | None:
        """Send the rest, within `patience` seconds; what could not be logged, in one line, or None."""
        self._status = status
        self._woken.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._abandoned.set()
            self._problem = self._problem or f"no more within {patience:g} s"
        return unsent(self.mirror, self._problem) if self._problem else None

    def _run(self) -> None:
        self._attempt(self._note)
        self._attempt(self._wait_for_a_trial)
        retry_at, last = 0.0, False
        while not last:
            last = self._status != RUNNING
            if last or time.monotonic() >= retry_at:
                self._problem = self._attempt(self._send)
                retry_at = time.monotonic() + (PAUSE if self._problem else 0)
            if not last:
                self._woken.wait(POLL)
                self._woken.clear()

    def _note(self) -> None:
        note_provenance(self.mirror.study, self._samples())

    def _wait_for_a_trial(self) -> None:
        """To load MLflow takes CPU seconds, for which no first trial need wait."""
        begun = partial(self.mirror.study.get_trials, deepcopy=False, states=(TrialState.RUNNING,))
        while not self._woken.wait(POLL) and not begun():
            pass

    def _send(self) -> None:
        status = self._status
        with turn(self.mirror, wait=0 if status == RUNNING else -1):
            self.mirror.send(status, lambda: not self._abandoned.is_set())

    @staticmethod
    def _attempt(action: Callable[[], None]) -> str | None:
        """What went wrong, if anything."""
        try:
            action()
        except filelock.Timeout:
            return "another process is logging this study"
        except Exception as error:  # of any server, driver or disk
            return client.reason(error)
        return None


@contextmanager
def turn(mirror: Mirror, wait: float) -> Iterator[None]:
    """One process at a time logs a study; whoever comes after another one looks again at what is there.

    Raises filelock.Timeout when it is not its turn within `wait` seconds; -1 waits for ever.
    """
    last = mirror.folder / f"{LOCK}.last"
    with filelock.FileLock(mirror.folder / LOCK, timeout=wait):
        if not last.is_file() or last.read_text(encoding="utf-8") != mirror.name:
            mirror.forget()
            last.write_text(mirror.name, encoding="utf-8")
        try:
            yield
        except BaseException:
            mirror.forget()  # an answer may have been lost on the way
            raise


def unsent(mirror: Mirror, problem: str) -> str:
    """What MLflow does not have, why, and how it gets there."""
    n = len(mirror.pending())
    what = "the study's files are" if n == 0 else "1 trial is" if n == 1 else f"{n} trials are"
    most = "up to " if n and not mirror.known else ""
    remedy = f"autoprune sync {mirror.folder} sends {'it' if n == 1 else 'them'}"
    return f"{most}{what} not in MLflow yet ({problem}); {remedy}"
