"""Where a study is kept: a journal in its folder, or a database named by a URL; and who may change it when."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from search import locks
from search.config import ConfigError, Settings, without_password
from search.presence import Presence, on_this_host

SQLITE, POSTGRESQL = "sqlite:///", "postgresql://"
MISSED_BEATS = 3  # so many heartbeats late, a worker counts as dead
# A host that loses its power while it holds a lock must not hold up the others; all hosts read one clock.
SESSION = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 -c timezone=UTC"


@dataclass(frozen=True)
class Place:
    """A study's folder and name, its database unless it keeps a journal, and seconds between two signs of life."""

    out: Path
    name: str
    url: str | None = None
    heartbeat: int = 60

    def __post_init__(self) -> None:
        """Raise ConfigError for a URL of another kind of database."""
        if self.url is not None and not self.url.startswith((SQLITE, POSTGRESQL)):
            raise ConfigError(
                f"search.storage={without_password(self.url)} is none of: null (a journal in the study's folder), "
                f"{SQLITE}FILE, {POSTGRESQL}USER@HOST/DATABASE"
            )

    @classmethod
    def of(cls, settings: Settings) -> "Place":
        """The place that the config names."""
        search = settings.typed.search
        return cls(settings.out, settings.typed.study, search.storage, search.heartbeat)

    @property
    def presence(self) -> Presence:
        """The workers who share this folder."""
        return Presence(self.out / "workers")

    def exists(self) -> bool:
        """May there be a study? A server has to be asked."""
        return self._file is None or self._file.is_file()

    def open(self) -> BaseStorage:
        """Optuna's storage, made if it is not there. Raises ConfigError for a database that cannot be reached."""
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        if self.url is None:
            assert self._file is not None
            return JournalStorage(JournalFileBackend(str(self._file), locks.JournalLock(self._file)))
        with warnings.catch_warnings(), _told(self.url):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                _with_driver(self.url),
                engine_kwargs={"pool_pre_ping": True, "connect_args": _connect_args(self.url)},
                heartbeat_interval=self.heartbeat,
                grace_period=MISSED_BEATS * self.heartbeat,
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While inside, nobody else creates the study, asks for a trial or gives one back.

        The holder's death ends it: by the kernel on a file, by the server in PostgreSQL.
        """
        if self._file is not None:
            with locks.held(self._file.with_name(f"{self._file.name}.lock")):
                yield
            return
        key = int.from_bytes(hashlib.blake2b(self.name.encode(), digest_size=8).digest(), "big", signed=True)
        with _told(str(self.url)):
            connection = _engine(str(self.url)).connect()
        with connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield

    def is_dead(self, worker: str | None) -> bool:
        """Is it certain, without waiting for a heartbeat, that the owner of a running trial is dead?

        Ask inside `exclusive`: a trial gets its owner there, so one without an owner was cut off before.
        """
        alive = None if worker is None else self.presence.alive(worker)
        if worker is None or self.url is None:
            return alive is not True
        return alive is False and on_this_host(worker)

    @property
    def _file(self) -> Path | None:
        if self.url is None:
            return self.out / "journal.log"
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None


def _with_driver(url: str) -> str:
    return url.replace(POSTGRESQL, "postgresql+psycopg://", 1)


def _connect_args(url: str) -> dict[str, Any]:
    return {"timeout": 60} if url.startswith(SQLITE) else {"options": SESSION, "connect_timeout": 10}


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
    """What goes wrong on the way to a database, in one line."""
    shown = without_password(url)
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"search.storage={shown} needs psycopg: pip install 'autoprune-lab[postgres]'") from error
    except sqlalchemy.exc.OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise ConfigError(f"search.storage={shown} cannot be opened: {reason}") from error
