"""Brings MLflow up to date with a study: its run, a child run per ended trial, its progress, its files.

MLflow itself says what it has: the study's run carries the study's key, a child run its trial's number from the moment
it exists and an end from the moment it is whole, the files a mark. So every step may be repeated after a kill at
any point, and none is done twice.
"""

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.results.provenance import PROVENANCE
from search.results.study_result import artifacts
from search.study.ledger import Ledger
from search.tracking.fields import Progress, TrialFields, milliseconds, safe
from search.tracking.report_metrics import report_metrics
from search.tracking.runs import PAGE, PARENT, StudyRun, chunks, open_run
from search.tracking.settings import RUNNING, MlflowTracking

FILES = "files"
TUNED = "tuned"


class Mirror:
    """One study in one MLflow. Not for two processes at once: `search.tracking.background.turn` sees to that."""

    def __init__(self, study: optuna.Study, target: MlflowTracking, folder: Path) -> None:
        self.study, self.target, self.folder = study, target, folder
        self.name = uuid.uuid4().hex
        self.sent: set[int] = set()
        self._ledger, self._progress, self._lock = Ledger(study), Progress(study), threading.Lock()
        self._waiting, self._n_seen = list[FrozenTrial](), 0
        self.known = not self.pending()  # whether `sent` is all that MLflow has
        self._run: StudyRun | None = None

    def pending(self) -> list[FrozenTrial]:
        """Ended trials that MLflow is not known to have, in order."""
        with self._lock:  # whoever gives up waiting for the thread that sends asks what it has left
            ended = self._ledger.look().ended
            waiting = [*self._waiting, *ended[self._n_seen :]]
            self._waiting = sorted((t for t in waiting if t.number not in self.sent), key=lambda t: t.number)
            self._n_seen = len(ended)
            return self._waiting

    def forget(self) -> None:
        """Ask MLflow again what it has, before anything else is sent."""
        self._run = None

    def send(self, status: str, wanted: Callable[[], bool] = lambda: True) -> int:
        """Send all that is missing; any status but RUNNING closes the run, with its files. Raises what MLflow raises.

        It ends early, with nothing half done, as soon as it is no longer `wanted`. Returns how many trials it sent.
        """
        if self._run is None:
            self._run = open_run(self.study, self.target, self.folder)
            with self._lock:
                self.sent, self._waiting, self._n_seen, self.known = set(self._run.whole), [], 0, True
        waiting = self.pending()
        for n, trial in enumerate(waiting):
            if not wanted():
                return n
            _send_trial(self._run, TrialFields.of(self.study, trial), trial.number)
            self.sent.add(trial.number)
        _send_progress(self._run, self._progress)
        if status != RUNNING:
            _send_files(self._run, self.study, self.folder)
        if self._run.status != status:
            _send_status(self._run, status)
        return len(waiting)


def _send_trial(run: StudyRun, fields: TrialFields, number: int) -> None:
    """Three requests: begin, all values, end."""
    from mlflow.entities import Metric, Param

    run_id = run.halves.get(number)
    if run_id is None:
        tags = {**fields.tags, PARENT: run.run_id}
        child = run.client.create_run(run.experiment, fields.start, tags, run_name=f"trial {number}")
        run_id = str(child.info.run_id)
    metrics = [Metric(key, value, fields.end, 0) for key, value in fields.metrics.items()]
    params = [Param(key, value) for key, value in fields.params.items()]
    run.client.log_batch(run_id, metrics=metrics, params=params)
    run.client.set_terminated(run_id, status=fields.status, end_time=fields.end)


def _send_progress(run: StudyRun, progress: Progress) -> None:
    from mlflow.entities import Metric

    steps = progress.after(run.step)
    metrics = [Metric(key, value, now, n) for n, now, measured in steps for key, value in measured.items()]
    for some in chunks(metrics, PAGE):
        run.client.log_batch(run.run_id, metrics=some)
    run.step = max([run.step, *(n for n, _, _ in steps)])


def _send_files(run: StudyRun, study: optuna.Study, folder: Path) -> None:
    """The folder's tables, pictures and tuned pruners, and what the report says, unless they are there as they are."""
    from mlflow.entities import Metric

    files = artifacts(folder)
    notes = {"settings": study.user_attrs.get("settings", {}), "provenance": study.user_attrs.get(PROVENANCE, [])}
    mark = _mark(files, notes)
    if run.client.get_run(run.run_id).data.tags.get(FILES) == mark:
        return
    for name, file in files.items():
        above = Path(name).parent.as_posix()
        run.client.log_artifact(run.run_id, str(file), None if above == "." else above)
    _remove_beaten(run, set(files))
    for name, note in notes.items():
        run.client.log_text(run.run_id, json.dumps(note, indent=2), f"{name}.json")
    now = milliseconds(None)
    metrics = [Metric(safe(key), value, now, 0) for key, value in report_metrics(folder).items()]
    run.client.log_batch(run.run_id, metrics=metrics)
    run.client.set_tag(run.run_id, FILES, mark)


def _remove_beaten(run: StudyRun, files: set[str]) -> None:
    """Remove tuned pruners of an earlier front, where the store can."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    kept = str(run.client.get_run(run.run_id).info.artifact_uri)
    place: Any = get_artifact_repository(kept, run.client.tracking_uri)
    with suppress(NotImplementedError):
        for item in place.list_artifacts(TUNED):
            if item.path not in files:
                place.delete_artifacts(item.path)


def _send_status(run: StudyRun, status: str) -> None:
    if status == RUNNING:
        run.client.update_run(run.run_id, status=status)
    else:
        run.client.set_terminated(run.run_id, status=status)
    run.status = status


def _mark(files: Mapping[str, Path], notes: Mapping[str, Any]) -> str:
    """Changes when any of them does."""
    mark = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, file in sorted(files.items()):
        mark.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return mark.hexdigest()[:16]
