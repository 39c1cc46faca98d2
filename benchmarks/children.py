"""Commands that are timed as a whole, each a process of its own."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence


def seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """CPU seconds, of all its threads and processes, and wall seconds. Raises CalledProcessError where it fails.

    No other child may end meanwhile. `environment` is set beside this process's own.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | (environment or {}))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall
