"""A database that does not answer is waited for, and it is said; then what was asked of it is asked again.

Asking again is safe: an answer may have been lost on the way, so what was asked may have been done. Attributes,
parameters and heartbeats may be set twice. A trial that is told twice must have ended as it was told. A study or a
trial is created only inside a section (`StudyStorage.exclusive`), and what loses its connection there begins the
section anew: the lock has gone with the connection, and what is there already is seen.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState

from search.config.errors import ConfigError

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

FIRST, LONGEST = 0.1, 2.0  # seconds between two attempts
PASSING = ("08", "40", "57P", "53300", "55P03")  # SQLSTATE: connection, deadlock, shutdown, too many clients, locked
STARTING = ("starting up", "shutting down", "recovery", "too many", "not accepting", "not yet accepting")
CREATING = ("create_new_study", "create_new_trial")


class StorageError(ConfigError):
    """A study's storage cannot be read or written; one line. What ended before is safe."""


class SectionLostError(RuntimeError):
    """The connection that held a section's lock has gone: whoever was in it begins anew."""


SECTION: ContextVar[sqlalchemy.Connection | None] = ContextVar("SECTION", default=None)
"""The connection that holds the lock of the section that this thread is in; None outside, and for a locked file."""


@dataclass
class Patience:
    """Waits `limit` seconds for a database to answer. An outage is told once, on stderr, whoever meets it."""

    name: str
    limit: float
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = time.sleep
    _told: bool = False
    _over: bool = False  # an outage was longer than the limit: nobody waits any more until there is an answer
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Callable[[], T], is_last: bool = True) -> T:
        """The answer, however often it has to be asked for. Raises StorageError where waiting does not help.

        One who is not the last to ask gives up alone: others still wait.
        """
        begun, delay, waited = self.now(), FIRST, False
        while True:
            try:
                answer = question()
            except Exception as error:
                reason = self.outage(error)
                if reason is None:
                    raise
                if self._over or self.now() + delay - begun > self.limit:
                    self._over = self._over or is_last
                    raise self.refusal(reason) from error
                waited = True
                self._tell(reason, self.limit - (self.now() - begun))
                self.pause(delay)
                delay = min(2 * delay, LONGEST)
            else:
                self._over = False
                if waited:
                    self._tell_end(self.now() - begun)
                return answer

    def outage(self, error: Exception) -> str | None:
        """Why the database does not answer; None for an error that is not a database's.

        Raises StorageError for what does not pass by itself: a full disk, a wrong password, a table that is gone.
        """
        found = None if isinstance(error, ConfigError | SectionLostError) else link(error, sqlalchemy.exc.DBAPIError)
        if found is None:
            return None
        said = " ".join(str(found.orig).split())
        if not passes(found):
            raise StorageError(f"{self.name} cannot be used: {said}") from error
        return said

    def refusal(self, reason: str) -> StorageError:
        """Waiting has come to an end."""
        return StorageError(
            f"{self.name} cannot be opened: {reason}; it was waited for, {self.limit:g} s (search.patience). "
            "No trial that ended is lost: when it is back, the same command goes on"
        )

    def _tell(self, reason: str, seconds: float) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        until = datetime.now() + timedelta(seconds=seconds)
        waiting = f"waiting for it at most {seconds:.0f} s (search.patience), until {until:%H:%M:%S}"
        _say(f"{self.name} does not answer ({reason}); {waiting}")

    def _tell_end(self, seconds: float) -> None:
        with self._lock:
            if not self._told:
                return
            self._told = False
        _say(f"{self.name} answers again after {seconds:.0f} s")


class PatientStorage(_CachedStorage):
    """A database as optuna wants it; every operation waits for an outage to pass. Raises StorageError."""

    def __init__(self, backend: RDBStorage, patience: Patience) -> None:
        super().__init__(backend)
        self.patience = patience

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Told twice, where the first answer was lost, it must have ended in the same way."""
        attempts = 0

        def tell() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                there = self._backend.get_trial(trial_id)
                if attempts == 1 or (there.state, there.values) != (state, None if values is None else list(values)):
                    raise
                return True

        return self._ask("set_trial_state_values", tell)

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life; one that fails is not worth a worker's."""
        with suppress(StorageError):
            self.patience.ask(partial(super().record_heartbeat, trial_id), is_last=False)

    def _ask(self, name: str, question: Callable[[], T]) -> T:
        connection = SECTION.get()
        if connection is None:
            if name in CREATING and self._backend.engine.dialect.name != "sqlite":
                return self._once(question)
            return self.patience.ask(question)
        try:
            connection.execute(sqlalchemy.text("SELECT 1"))
            return question()
        except Exception as error:
            if self.patience.outage(error) is None:
                raise
            raise SectionLostError from error

    def _once(self, question: Callable[[], T]) -> T:
        """For what must not be done twice."""
        try:
            return question()
        except Exception as error:
            if (reason := self.patience.outage(error)) is None:
                raise
            raise self.patience.refusal(reason) from error


def _patient(name: str) -> Any:
    plain = getattr(_CachedStorage, name)

    def operation(self: PatientStorage, *given: Any, **named: Any) -> Any:
        return self._ask(name, lambda: plain(self, *given, **named))

    return operation


for _name in (
    *("create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name"),
    *("get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs"),
    *("get_all_studies", "create_new_trial", "set_trial_param", "get_trial_id_from_study_id_trial_number"),
    *("get_best_trial", "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
    *("get_trial", "get_all_trials", "_get_stale_trial_ids"),
):
    setattr(PatientStorage, _name, _patient(_name))


@contextmanager
def section(connection: sqlalchemy.Connection) -> Iterator[None]:
    """Whoever is inside relies on the lock that the connection holds."""
    token = SECTION.set(connection)
    try:
        yield
    finally:
        SECTION.reset(token)


def link(error: BaseException, kind: type[E]) -> E | None:
    """The error itself, or the nearest one that it was raised from, of that kind."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        if isinstance(found, kind):
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


def passes(error: sqlalchemy.exc.DBAPIError) -> bool:
    """May it be over in a minute? A restart, a refused connection, too many clients, a lock of somebody else's."""
    if not isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return error.connection_invalidated
    said, state = str(error.orig), getattr(error.orig, "sqlstate", None)
    if type(error.orig).__module__ == "sqlite3":
        return "is locked" in said
    if state is not None:
        return str(state).startswith(PASSING)
    if "FATAL" in said:  # the server itself says so
        return any(word in said for word in STARTING)
    return not any(word in said for word in ("not known", "resolve host", "translate host"))


def _say(what: str) -> None:
    """One line, below the search's own where there is one."""
    begin = "\n" if sys.stderr.isatty() else ""
    print(f"{begin}autoprune: {what}", file=sys.stderr, flush=True)
