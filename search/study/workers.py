"""Several workers on one study: started by a launcher, or joined by hand from any host."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autoprune_lab.plugins.renamed import renamed
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.identity import search_of
from search.config.trust import check_code, check_words
from search.study import loop
from search.study.launchers import Job, LocalLauncher, Work
from search.study.progress import watching
from search.study.storage import StudyStorage
from search.study.trials import Observer, n_ended

if TYPE_CHECKING:
    import optuna

LOOK = 1.0  # seconds between two looks at the study


class WorkersDiedError(RuntimeError):
    """No worker is left, and trials are missing."""


def check_launcher(experiment: Experiment) -> None:
    """Raise ConfigError where the launcher's workers could not share the study's storage."""
    local = is_local(experiment) or experiment.typed.launcher.get("cluster") == "local"
    storage = experiment.typed.search.storage
    if not local and not str(storage).startswith("postgresql"):
        raise ConfigError(
            f"launcher: workers on other hosts cannot share search.storage={storage or 'null, a journal on this one'}: "
            "give search.storage=postgresql://USER@HOST/DATABASE"
        )


def is_local(experiment: Experiment) -> bool:
    """Are workers processes of this host?"""
    return isinstance(experiment.launcher, LocalLauncher)


def launch(study: "optuna.Study", experiment: Experiment, work: Work, observers: Sequence[Observer] = ()) -> None:
    """Start workers that each call `work`, and watch them until the study is complete.

    One that dies does not stop the others. Raises WorkersDiedError when none is left before that.
    """
    search = experiment.typed.search
    n = min(search.workers, search.n_trials - n_ended(study))
    starting = experiment.launcher.start(work, n, experiment.out / "workers")
    with watching(study, search.n_trials, observers) as look, starting as jobs:
        watch(jobs, look)
    if n_ended(study) < search.n_trials:
        raise WorkersDiedError(f"no worker is left and {search.n_trials - n_ended(study)} trials are missing")


def watch(jobs: Sequence[Job], look: Callable[[], None]) -> None:
    """Look at the study as long as somebody works on it, and say at once who died."""
    told: set[int] = set()
    while True:
        at_work = [job.running() for job in jobs]
        look()
        for rank, job in enumerate(jobs):
            if not at_work[rank] and rank not in told:
                told.add(rank)
                if trouble := job.trouble():
                    print(f"\nworker {rank} {trouble}", file=sys.stderr)
        if not any(at_work):
            return
        time.sleep(LOOK)


def as_begun(experiment: Experiment, packages: Sequence[str] = ()) -> Experiment:
    """The experiment of the study that is joined: what it was begun with, then what was said here.

    Raises ConfigError where its storage would have this host run code that nobody here has named:
    `search.config.trust`.
    """
    storage = StudyStorage.of(experiment.typed)
    if (study := loop.existing(storage)) is None:
        where = experiment.settings.config["search"]["storage"] or storage.out
        raise ConfigError(f"there is no study '{storage.name}' in {where} to join: begin it with autoprune study")
    settings = experiment.settings
    begun = check_words(study.user_attrs.get(loop.WORDS, []), experiment)
    words = [*begun, *settings.overrides]
    if not any(word.startswith("search=") for word in words):  # then's default, which may not be today's
        words = [*search_of(renamed(study.user_attrs.get(loop.SETTINGS, {}))), *words]
    joined = Experiment.compose(words, settings.folders)
    check_code(joined, experiment, packages)
    return joined
