"""Nobody waits for the disk: what a killed process has written stays in the kernel's hands."""

import os
import sqlite3
from contextlib import suppress

from sqlalchemy import Engine, event


def unsynced() -> None:
    """From now on this process, and every SQLite file that it opens through SQLAlchemy, leaves the disk to itself."""
    os.fsync = lambda file: None
    if not event.contains(Engine, "connect", _leave_to_itself):
        event.listen(Engine, "connect", _leave_to_itself)


def _leave_to_itself(connection: object, record: object) -> None:
    """Or wait for the disk after all, where another one has the file locked at this moment."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA synchronous = OFF")
