"""How several workers are started: as processes of this host, or as jobs of a cluster through submitit.

A launcher is named by `launcher._target_` in the config; it knows nothing of studies. `start(work, n, folder)` calls
`work(rank)` in n processes, each with a log in the folder, and stops those that still run when it is left.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from search.config.errors import ConfigError
from search.config.threads import OMP

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    import submitit

Work = Callable[[int], None]

PATIENCE = 60  # seconds that a worker has to give its trial back


class Job(Protocol):
    """One worker."""

    def running(self) -> bool:
        """Has it not ended yet?"""

    def trouble(self) -> str | None:
        """Why it did not end well, in one line."""


@dataclass(frozen=True)
class LocalLauncher:
    """Processes of this host, which share its CPU threads and take its GPUs in turn. They die with the launcher."""

    @contextmanager
    def start(self, work: Work, n: int, folder: Path) -> Iterator[Sequence[Job]]:
        """One new Python each: a process forked from one that has used CUDA could not use it."""
        folder.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        logs = [folder / f"worker-{rank}.log" for rank in range(n)]
        processes = [spawn.Process(target=_live, args=(work, rank, n, log)) for rank, log in enumerate(logs)]
        try:
            for process in processes:
                process.start()
            yield [LocalJob(process, log) for process, log in zip(processes, logs, strict=True)]
        finally:
            for process in processes:
                if process.pid is not None and process.is_alive():
                    os.kill(process.pid, signal.SIGINT)
            for process in processes:
                if process.pid is not None:
                    process.join(PATIENCE)
                    process.kill()
                    process.join()


@dataclass(frozen=True)
class LocalJob:
    """A process and its log."""

    process: "BaseProcess"
    log: Path

    def running(self) -> bool:
        """Is the process alive?"""
        return self.process.is_alive()

    def trouble(self) -> str | None:
        """The exit code, and where to read on."""
        code = self.process.exitcode
        return f"ended with exit code {code}, see {self.log}" if code else None


@dataclass(frozen=True)
class SubmititLauncher:
    """Jobs of a Slurm cluster, or with cluster=local processes that pass for such. They outlive a killed launcher.

    `parameters` are submitit's own (timeout_min, cpus_per_task, slurm_partition, ...); null leaves the cluster's.
    """

    cluster: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ConfigError for another cluster, or without submitit."""
        if self.cluster not in ("slurm", "local"):
            raise ConfigError(f"launcher.cluster={self.cluster} must be slurm or local")
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ConfigError("launcher: submitit is not there: pip install 'autoprune-lab[slurm]'") from error

    @contextmanager
    def start(self, work: Work, n: int, folder: Path) -> Iterator[Sequence[Job]]:
        """Submit n jobs as one array."""
        import submitit

        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=self.cluster)
        executor.update_parameters(**{key: value for key, value in self.parameters.items() if value is not None})
        with executor.batch():
            submitted = [executor.submit(_elsewhere, work, rank) for rank in range(n)]
        jobs = [SubmititJob(job) for job in submitted]
        try:
            yield jobs
        finally:
            for job in jobs:
                if job.running():
                    job.job.cancel(check=False)


@dataclass(frozen=True)
class SubmititJob:
    """A submitted job."""

    job: "submitit.Job[None]"

    def running(self) -> bool:
        """Is it waiting or running?"""
        return not self.job.done()

    def trouble(self) -> str | None:
        """Its state, and where to read on."""
        if self.running() or (self.job.state in ("COMPLETED", "FINISHED") and self.job.exception() is None):
            return None
        return f"ended as {self.job.state}, see {self.job.paths.stderr}"


def _elsewhere(work: Work, rank: int) -> None:
    """A job's life: how many threads the host has that submitted it says nothing about its own."""
    os.environ.pop(OMP, None)
    work(rank)


def _live(work: Work, rank: int, n: int, log: Path) -> None:
    """A local worker's life: an own session, so that Ctrl-C reaches the launcher alone, which then asks it to stop."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a launcher in the background (nohup ... &) ignores it
    with log.open("w") as stream:
        for output in (1, 2):
            os.dup2(stream.fileno(), output)
    Thread(target=_stop_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // n))
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    try:
        work(rank)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
