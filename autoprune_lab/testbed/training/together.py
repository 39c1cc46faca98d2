"""Processes that train one model together: each makes its own lessons, gradients are averaged.

Started by `torchrun --nproc-per-node N`; a process alone is a group of one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed


@contextmanager
def together() -> Iterator[tuple[int, int]]:
    """(rank, number of processes); joins the group that torchrun describes, and leaves it at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield 0, 1
        return
    distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank(), size
    finally:
        distributed.destroy_process_group()
