"""Opens files of strangers: regular ones only, and pictures only where the user says that they lie."""

import os
import stat
from functools import lru_cache
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """A regular file's content. Raises OSError, also for a device or a pipe, which might never end."""
    refuse_special(path)
    return path.read_bytes()


def refuse_special(path: Path) -> None:
    """Raise OSError for a device, a pipe, a socket, a folder, or where there is nothing."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL in the name
        raise FileNotFoundError(str(error)) from None
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file")


def is_inside(path: Path, folder: Path) -> bool:
    """Does the path, its symbolic links followed, lie in the folder? Raises OSError for a path that is none."""
    try:
        real = os.path.realpath(path)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from None
    return any(real.startswith(home) for home in _homes(folder))


@lru_cache
def _homes(folder: Path) -> tuple[str, ...]:
    """The folder itself, and of a dataset in the hub's cache the folder that its links point to."""
    real = Path(os.path.realpath(folder))
    snapshot = next((place for place in (real, *real.parents) if place.parent.name == "snapshots"), None)
    blobs = () if snapshot is None else (snapshot.parent.parent / "blobs",)
    return tuple(os.path.join(place, "") for place in (real, *blobs))
