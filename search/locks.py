"""Locks on files. The kernel frees them when their holder dies, however it dies: nothing stale is left."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from optuna.storages.journal._file import BaseJournalFileLock

from search.config import ConfigError


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the file's lock; wait for it as long as it takes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        lock(stream)
        yield


def lock(stream: IO[bytes]) -> None:
    """Lock an open file until it is closed. Raises ConfigError where the file system has no locks."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise ConfigError(
            f"{stream.name} is on a file system without locks: keep the study on another one, with folder=DIR"
        ) from error


def is_free(file: Path) -> bool:
    """Does nobody hold the file's lock? Two who ask at once do not see each other."""
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class JournalLock(BaseJournalFileLock):
    """One writer of a journal at a time, by a lock on the journal itself.

    Differs from optuna's own locks: a writer that was killed holds nobody up (theirs: 30 s), and the line that it
    left unfinished is cut off before the next one is written (theirs would grow together, and the journal be lost).
    Readers pass over an unfinished line, so nobody has acted upon it.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._stream: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._stream = self._journal.open("r+b")
        lock(self._stream)
        _cut_unfinished_line(self._stream)
        return True

    def release(self) -> None:
        """Let the next one write."""
        assert self._stream is not None
        self._stream.close()


def _cut_unfinished_line(stream: IO[bytes], step: int = 4096) -> None:
    end = size = stream.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(end - step, 0)
        stream.seek(begin)
        newline = stream.read(end - begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        stream.truncate(end)
