"""A study's journal: one operation a line. What is wrong with the file is told with its name and the line's number."""

import copy
import json
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal._base import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from search.study.locks import held_for_writing
from search.study.outages import StorageError

NUMBER, ATTRIBUTES = (int, float), (dict,)
FIELDS: dict[int, dict[str, tuple[type, ...]]] = {
    0: {"study_name": (str,), "directions": (list,)},
    1: {"study_id": (int,)},
    2: {"study_id": (int,), "user_attr": ATTRIBUTES},
    3: {"study_id": (int,), "system_attr": ATTRIBUTES},
    4: {"study_id": (int,), "datetime_start": (str, type(None))},
    5: {"trial_id": (int,), "param_name": (str,), "param_value_internal": NUMBER, "distribution": (str,)},
    6: {"trial_id": (int,), "state": (int,), "values": (list, type(None))},
    7: {"trial_id": (int,), "step": (int,), "intermediate_value": NUMBER},
    8: {"trial_id": (int,), "user_attr": ATTRIBUTES},
    9: {"trial_id": (int,), "system_attr": ATTRIBUTES},
}
"""What each of optuna's operations must hold, by its code; it checks the rest itself when it carries them out."""
ALWAYS: dict[str, tuple[type, ...]] = {"worker_id": (str,)}
FINISHED = [state for state in TrialState if state.is_finished()]
OPTIONAL = dict.fromkeys(("user_attrs", "system_attrs", "params", "distributions"), ATTRIBUTES)


class Journal(JournalStorage):
    """A study in a journal. Raises StorageError where the file cannot be read or written.

    Differs from optuna's own: who asks for trials that wait or run does not walk through all that have ended (theirs
    does, whenever a trial is asked for).
    """

    def __init__(self, file: Path) -> None:
        self._file = JournalFile(file)
        self._trials: dict[int, list[FrozenTrial]] = {}  # of each study, as they were when they were last asked for
        self._open: dict[int, list[int]] = {}  # and the numbers of those that had not ended then
        super().__init__(self._file)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Of a study, in order of their number; those in `states`, or all. KeyError for a study that is not there."""
        with self._thread_lock:
            self._sync_with_backend()
            self._replay_result.get_study(study_id)
            trials, unended = self._followed(study_id)
            if states is not None:
                some = trials if any(state in states for state in FINISHED) else [trials[i] for i in unended]
                found = [trial for trial in some if trial.state in states]
            else:
                found = list(trials)
            return copy.deepcopy(found) if deepcopy else found

    def _followed(self, study_id: int) -> tuple[list[FrozenTrial], list[int]]:
        """All trials, and which have not ended; what had ended is not looked at again, for it stays as it is."""
        known, ids = self._replay_result._trials, self._replay_result._study_id_to_trial_ids[study_id]
        trials, unended = self._trials.setdefault(study_id, []), self._open.get(study_id, [])
        looked = [*unended, *range(len(trials), len(ids))]
        trials += [known[ids[i]] for i in range(len(trials), len(ids))]
        for i in unended:
            trials[i] = known[ids[i]]
        self._open[study_id] = [i for i in looked if not trials[i].state.is_finished()]
        return trials, self._open[study_id]

    def _sync_with_backend(self) -> None:
        """Carry out what was written since; only an operation of one's own may be refused."""
        try:
            super()._sync_with_backend()
        except StorageError:
            raise
        except Exception as error:
            if self._file.last[1].get("worker_id") == self._replay_result.worker_id:
                raise
            raise self._file.refusal(self._file.last[0], "no operation that could be carried out") from error


class JournalFile(BaseJournalBackend):
    """The lines of a journal, made if it is not there.

    Differs from optuna's own: a writer that was killed holds nobody up (theirs: 30 s), and the line that it left
    unfinished is cut off before the next one is written (theirs would grow together, and the journal be lost). Lines
    are written whole or not at all, also where the disk is full. Readers pass over an unfinished line, so nobody has
    acted upon it; a whole line that is no operation is an error (theirs passes over it as long as it is the last).
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.last: tuple[int, dict[str, Any]] = (0, {})  # number and content of the line that was read last
        self._end = 0  # of that line, in bytes
        with self._told("written"):
            file.open("ab").close()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The operations after the first `log_number_from`. Raises StorageError."""
        done, begin = (log_number_from, self._end) if log_number_from == self.last[0] else (0, 0)
        with self._told("read"), self.file.open("rb") as stream:
            end = stream.seek(begin)
            for number, line in enumerate(stream, start=done + 1):
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                if number > log_number_from:
                    self.last, self._end = (number, self._operation(number, line)), end
                    yield self.last[1]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write all of them, or none. Raises StorageError."""
        rest = memoryview("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
        with self._told("written"), held_for_writing(self.file) as stream:
            end = stream.tell()
            try:
                while rest:
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(end)
                raise

    def refusal(self, number: int, reason: str) -> StorageError:
        """What is wrong with a line."""
        return StorageError(
            f"{self.file}, line {number} is {reason}: the file was damaged, for lines are written whole; "
            "put a copy of it in its place, or begin the study again with --fresh"
        )

    def _operation(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            log = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self.refusal(number, "no JSON") from error
        if not _is_operation(log):
            raise self.refusal(number, "no operation of a study")
        return dict(log)

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        """What the file system refuses, in one line."""
        try:
            yield
        except FileNotFoundError as error:
            raise StorageError(f"{self.file} is gone, and the study's trials with it") from error
        except OSError as error:
            raise StorageError(
                f"{self.file} cannot be {action}: {error.strerror}; no trial that ended is lost: "
                "mend it, and the same command goes on"
            ) from error


def _is_operation(log: Any) -> bool:
    if (
        not isinstance(log, dict)
        or not isinstance(log.get("worker_id"), str)
        or not isinstance(log.get("op_code"), int)
    ):
        return False
    wanted = FIELDS.get(log["op_code"], {}) | {name: kinds for name, kinds in OPTIONAL.items() if name in log}
    values = log.get("values") or []
    return all(name in log and isinstance(log[name], kinds) for name, kinds in wanted.items()) and (
        isinstance(values, list) and all(isinstance(value, NUMBER) for value in values)
    )
