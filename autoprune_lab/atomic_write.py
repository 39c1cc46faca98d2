"""Files that are there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Yields where to write: what stands there becomes `file` when the block ends, in one step.

    Of several processes that write the same file each has a place of its own. One that dies leaves a .part file.
    """
    half = file.with_name(f"{file.name}.{os.getpid()}.part")
    yield half
    half.replace(file)
