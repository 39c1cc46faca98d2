"""Locks on files. The kernel frees them when their holder dies, however it dies: nothing stale is left."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from search.config.errors import ConfigError


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the file's lock, whose folder must be there; wait for it as long as it takes."""
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


@contextmanager
def held_for_writing(journal: Path) -> Iterator[IO[bytes]]:
    """The journal, open and locked, at the end of its last whole line: one that a killed writer left is cut off."""
    with journal.open("r+b", buffering=0) as stream:
        lock(stream)
        _cut_unfinished_line(stream)
        yield stream


def _cut_unfinished_line(stream: IO[bytes], step: int = 4096) -> None:
    """Leave the stream at its new end."""
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
    stream.seek(end)
