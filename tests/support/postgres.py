"""A PostgreSQL server of its own, for one test file, in a temporary folder on a free port; it can be restarted."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPTIONS = ("fsync=off", "full_page_writes=off", "unix_socket_directories=", "listen_addresses=127.0.0.1")


def programs() -> Path | None:
    """The folder of the server's programs; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


@dataclass(frozen=True)
class Server:
    """A server's folder of programs and port; `run` is how its programs are called."""

    programs: Path
    port: str
    run: dict[str, Any]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"postgresql://me@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [word for option in OPTIONS for word in ("-c", option)]
        self._control("-t", "120", "-o", " ".join(["-p", self.port, *options]), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` as a crash does, `fast` as an administrator does. Every connection is cut."""
        self._control("-m", mode, "stop")

    def _control(self, *words: str) -> None:
        subprocess.run([self.programs / "pg_ctl", "-D", "data", "-l", "log", "-w", *words], **self.run)


@contextmanager
def server(programs: Path) -> Iterator[Server]:
    """A running server, of an ordinary user since it refuses to be root."""
    folder = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    if ids:
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    run = {"check": True, "cwd": folder, "capture_output": True, **ids}
    subprocess.run([programs / "initdb", "-A", "trust", "-U", "me", "-D", "data", "--no-sync"], **run)
    made = Server(programs, port, run)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
