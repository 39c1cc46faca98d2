"""Who works on a study: one locked file a worker, in the study's folder. The lock ends with the worker's life."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.study import locks

SUFFIX = ".alive"


@dataclass(frozen=True)
class Liveness:
    """The workers who share a folder; a worker's name is HOST.PID.LETTERS, never used again."""

    folder: Path

    @contextmanager
    def enter(self) -> Iterator[str]:
        """Be at work under a new name. After an error the file stays, unlocked: it says that its trial is nobody's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        file = self._file(name)
        new = file.with_suffix(".new")
        with new.open("wb") as stream:
            locks.lock(stream)
            new.rename(file)  # seen by others only once it is locked
            yield name
            file.unlink(missing_ok=True)

    def alive(self, worker: str) -> bool | None:
        """Is the worker alive? None where its file is not here: it has gone, or works from another folder."""
        try:
            return not locks.is_free(self._file(worker))
        except FileNotFoundError:
            return None

    def living(self) -> list[str]:
        """Names of all who are at work."""
        names = sorted(file.name.removesuffix(SUFFIX) for file in self.folder.glob(f"*{SUFFIX}"))
        return [name for name in names if self.alive(name)]

    def sweep(self) -> None:
        """Remove the files of the dead; their trials must have been given back before."""
        for file in self.folder.glob(f"*{SUFFIX}"):
            if self.alive(file.name.removesuffix(SUFFIX)) is False:
                file.unlink(missing_ok=True)

    def _file(self, worker: str) -> Path:
        return self.folder / f"{worker}{SUFFIX}"


def on_this_host(worker: str) -> bool:
    """Does the worker run here?"""
    return worker.rsplit(".", 2)[0] == socket.gethostname()
