"""How many CPU threads a process may use, and that they sleep while they wait: told before torch makes them.

What is read: the CPUs that the process may run on (taskset, containers with cpusets), the quota of its cgroup and of
all those above it (docker --cpus, Kubernetes limits), and what Slurm gave a task. A quota of 1.5 CPUs is one thread:
two would be stopped for a part of every period, and wait for each other.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.config.errors import ConfigError

AUTO = "auto"
OMP = "OMP_NUM_THREADS"
ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # of GNU's and LLVM's OpenMP; Intel's reads the second
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")  # the first that is set


def check(threads: Any) -> int | None:
    """The number, or None for auto. Raises ConfigError for anything else."""
    if threads == AUTO:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigError(f"threads={threads} must be {AUTO}, or a whole number of at least 1")
    return threads


def use(threads: Any, environment: MutableMapping[str, str] = os.environ) -> int:
    """Let this process, and those that it starts, use so many threads that sleep while they wait; how many.

    What the user has said of waiting in the environment stays. Has to come before torch is imported: once there is a
    pool, only its size can be changed.
    """
    n = check(threads) or available(environment)
    for name, value in ASLEEP.items():
        environment.setdefault(name, value)
    environment[OMP] = str(n)
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != n:
        torch.set_num_threads(n)
    return n


def available(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """The least of all limits, OMP_NUM_THREADS among them; at least 1. `root` holds `proc` and `sys`."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    by_slurm = next((environment[name] for name in SLURM if name in environment), "")
    told = [re.match(r"\s*(\d+)", words) for words in (environment.get(OMP, ""), by_slurm)]
    numbers = [int(found[1]) for found in told if found and int(found[1]) > 0]
    return max(1, int(min([len(affinity), *numbers, *quotas(root)])))


def quotas(root: Path = Path("/")) -> Iterator[float]:
    """CPUs that the process's cgroup, and each one above it, may use; none where nothing is limited."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, kinds, path = line.split(":", 2)
        if number == "0":
            base = root / "sys/fs/cgroup"
        elif "cpu" in kinds.split(","):
            base = root / "sys/fs/cgroup" / kinds
        else:
            continue
        place = Path(path.lstrip("/"))
        for folder in (base / place, *(base / above for above in place.parents)):
            quota, period = _limit(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _limit(folder: Path) -> tuple[float, float]:
    """Microseconds of CPU in a period of so many; (0, 0) without a limit, as `max` and -1 say it."""
    both = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    return (float(both[0]), float(both[1])) if len(both) == 2 and both[0].isdigit() else (0.0, 0.0)


def _read(file: Path) -> str:
    """Empty where there is none."""
    with suppress(OSError):
        return file.read_text(encoding="utf-8")
    return ""
