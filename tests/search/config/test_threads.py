"""How many threads a process takes: arithmetic on what the system says, in a folder that passes for its root."""

import os

import pytest

from search.config import threads
from search.config.errors import ConfigError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/\n"}
CPU = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),  # no cgroups at all
        (V2, 8),
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, 8),
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1),  # two would be stopped and wait
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "50000 100000\n"}, 1),
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "1600000 100000\n"}, 8),
        (V2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n", "sys/fs/cgroup/user/cpu.max": "200000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),  # a container that sees its own group as the root
        (V1 | {f"{CPU}/docker/ab/cpu.cfs_quota_us": "-1\n", f"{CPU}/docker/ab/cpu.cfs_period_us": "100000\n"}, 8),
        (V1 | {f"{CPU}/docker/ab/cpu.cfs_quota_us": "250000\n", f"{CPU}/docker/ab/cpu.cfs_period_us": "100000\n"}, 2),
        (V1 | {f"{CPU}/cpu.cfs_quota_us": "600000\n", f"{CPU}/cpu.cfs_period_us": "100000\n"}, 6),
    ],
)
def test_the_quota_of_every_cgroup_is_followed(root, files, expected):
    write(root, files)
    assert threads.available({}, root) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "6"}, 4),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),
        ({"OMP_NUM_THREADS": "2", "SLURM_CPUS_PER_TASK": "4"}, 2),
        ({"OMP_NUM_THREADS": "3,2"}, 3),  # of nested regions, the outer one
        ({"OMP_NUM_THREADS": "many"}, 8),
        ({"OMP_NUM_THREADS": "0"}, 8),
    ],
)
def test_slurm_s_and_openmp_s_numbers_are_followed(root, environment, expected):
    assert threads.available(environment, root) == expected


def test_a_number_is_taken_and_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delitem(threads.sys.modules, "torch", raising=False)
    environment = {"OMP_NUM_THREADS": "1"}
    assert threads.use(3, environment) == 3
    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    spinning = {"OMP_WAIT_POLICY": "ACTIVE"}
    assert threads.use("auto", spinning) == int(spinning["OMP_NUM_THREADS"]) >= 1
    assert spinning["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True, None])
def test_what_is_no_number_of_threads_is_refused(value):
    with pytest.raises(ConfigError, match=f"^threads={value} must be auto, or a whole number of at least 1$"):
        threads.check(value)
