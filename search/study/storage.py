"""Where a study is kept: a journal in its folder, or a database named by a URL; and who may change it when."""

import hashlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from search.config.errors import ConfigError, without_password
from search.config.schema import Schema
from search.study import locks
from search.study.journal import Journal
from search.study.liveness import Liveness, on_this_host
from search.study.outages import Patience, PatientStorage, SectionLostError, StorageError, section

SQLITE, POSTGRESQL = "sqlite:///", "postgresql://"
MISSED_BEATS = 3  # so many heartbeats late, a worker counts as dead
PATIENCE = 90.0  # seconds that a database is waited for
LOCKED = 30  # seconds after which it is said that another worker's lock is waited for
# A host that loses its power while it holds a lock must not hold up the others; all hosts read one clock.
SESSION = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 -c timezone=UTC"
SQLITE_BUSY = {"timeout": 15}  # seconds within which nobody is told that the file is locked
SERVER = {  # a server that loses its power must not be waited for without end either
    "options": SESSION,
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
}
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's name for it
T = TypeVar("T")


@dataclass(frozen=True)
class StudyStorage:
    """A study's folder and name, its database unless it keeps a journal, and seconds between two signs of life.

    `patience` is how many seconds a database that does not answer is waited for.
    """

    out: Path
    name: str
    url: str | None = None
    heartbeat: int = 60
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        """Raise ConfigError for a URL of another kind of database."""
        if self.url is not None and not self.url.startswith((SQLITE, POSTGRESQL)):
            raise ConfigError(
                f"search.storage={without_password(self.url)} is none of: null (a journal in the study's folder), "
                f"{SQLITE}FILE, {POSTGRESQL}USER@HOST/DATABASE"
            )

    @classmethod
    def of(cls, typed: Schema) -> "StudyStorage":
        """The one that the config names."""
        search = typed.search
        return cls(Path(typed.out), typed.study, search.storage, search.heartbeat, search.patience)

    @property
    def liveness(self) -> Liveness:
        """The workers who share this folder."""
        return Liveness(self.out / "workers")

    def exists(self) -> bool:
        """May there be a study? A server has to be asked."""
        return self._file is None or self._file.is_file()

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.out, *([self._file.parent] if self._file is not None else [])):
            folder.mkdir(parents=True, exist_ok=True)

    def open(self) -> BaseStorage:
        """Optuna's storage, made if it is not there. Raises StorageError for one that cannot be opened."""
        if self.url is None:
            assert self._file is not None
            return Journal(self._file)
        return PatientStorage(self._waiting.ask(self._connect), self._waiting)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While inside, nobody else creates the study, asks for a trial or gives one back.

        The holder's death ends it: by the kernel on a file, by the server in PostgreSQL. The end of the connection to
        PostgreSQL ends it too: what is asked of the storage then raises SectionLostError.
        """
        if self._file is not None:
            with locks.held(self._file.with_name(f"{self._file.name}.lock")):
                yield
            return
        with self._waiting.ask(self._locked) as connection, section(connection):
            yield

    def exclusively(self, action: Callable[[], T]) -> T:
        """What `action` gives inside `exclusive`; it is begun anew, and must bear that, where the lock was lost."""
        while True:
            try:
                with self.exclusive():
                    return action()
            except SectionLostError:
                continue

    def is_dead(self, worker: str | None) -> bool:
        """Is it certain, without waiting for a heartbeat, that the owner of a running trial is dead?

        Ask inside `exclusive`: a trial gets its owner there, so one without an owner was cut off before.
        """
        alive = None if worker is None else self.liveness.alive(worker)
        if worker is None or self.url is None:
            return alive is not True
        return alive is False and on_this_host(worker)

    @property
    def _file(self) -> Path | None:
        if self.url is None:
            return self.out / "journal.log"
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None

    @property
    def _waiting(self) -> Patience:
        return _patience(str(self.url), self.patience)

    def _connect(self) -> RDBStorage:
        url = str(self.url)
        with warnings.catch_warnings(), _told(url):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                _with_driver(url),
                engine_kwargs={"pool_pre_ping": True, "connect_args": _connect_args(url)},
                heartbeat_interval=self.heartbeat,
                grace_period=MISSED_BEATS * self.heartbeat,
            )

    def _locked(self) -> sqlalchemy.Connection:
        """A connection to PostgreSQL that holds the study's lock."""
        key = int.from_bytes(hashlib.blake2b(self.name.encode(), digest_size=8).digest(), "big", signed=True)
        with _told(str(self.url)):
            connection = _engine(str(self.url)).connect()
        try:
            connection.execute(sqlalchemy.text(f"SET lock_timeout = '{LOCKED}s'"))
            while not self._take(connection, key):
                print(f"autoprune: waiting for another worker of '{self.name}', who holds its lock", file=sys.stderr)
                connection.execute(sqlalchemy.text("SET lock_timeout = 0"))
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _take(connection: sqlalchemy.Connection, key: int) -> bool:
        try:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        except sqlalchemy.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
        return True


def _with_driver(url: str) -> str:
    return url.replace(POSTGRESQL, "postgresql+psycopg://", 1)


def _connect_args(url: str) -> dict[str, Any]:
    return dict(SQLITE_BUSY if url.startswith(SQLITE) else SERVER)


@cache
def _patience(url: str, limit: float) -> Patience:
    """One for all who ask this database, so that an outage is told once."""
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it shows a traceback for every connection cut
    return Patience(f"search.storage={without_password(url)}", limit)


@cache
def _engine(url: str) -> sqlalchemy.Engine:
    """Connections that live as long as they are used; the lock of one ends with it."""
    return sqlalchemy.create_engine(
        _with_driver(url),
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=_connect_args(url),
    )


@contextmanager
def _told(url: str) -> Iterator[None]:
    """What is no outage and yet in the way, in one line."""
    shown = without_password(url)
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"search.storage={shown} needs psycopg: pip install 'autoprune-lab[postgres]'") from error
    except (sqlalchemy.exc.ArgumentError, RuntimeError) as error:  # no URL; tables of another version of optuna
        raise StorageError(f"search.storage={shown} cannot be opened: {' '.join(str(error).split())}") from error
