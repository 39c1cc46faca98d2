"""A PostgreSQL server of its own, for one test file, in a temporary folder on a free port."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPTIONS = ("fsync=off", "full_page_writes=off", "unix_socket_directories=", "listen_addresses=127.0.0.1")


def programs() -> Path | None:
    """The folder of the server's programs; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Start it, as an ordinary user since it refuses to be root, and give its URL."""
    folder = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    if ids:
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = [word for option in OPTIONS for word in ("-c", option)]
    run = {"check": True, "cwd": folder, "capture_output": True, **ids}
    subprocess.run([programs / "initdb", "-A", "trust", "-U", "me", "-D", "data", "--no-sync"], **run)
    pg_ctl = [programs / "pg_ctl", "-D", "data", "-l", "log", "-w"]
    subprocess.run([*pg_ctl, "-t", "120", "-o", " ".join(["-p", port, *options]), "start"], **run)
    try:
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder)
