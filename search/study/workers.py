"""Several workers on one study: started by a launcher, or joined by hand from any host."""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from search.config.compose import ConfigError, Settings, compose
from search.config.instantiate import build
from search.config.overrides import spelled
from search.study import loop
from search.study.launchers import Job, LocalLauncher
from search.study.progress import watching
from search.study.storage import StudyStorage
from search.study.trials import Observer, n_ended
from search.study.trust import check_code, check_words, for_others

if TYPE_CHECKING:
    import optuna

LOOK = 1.0  # seconds between two looks at the study


class WorkersDiedError(RuntimeError):
    """No worker is left, and trials are missing."""


def check_launcher(settings: Settings) -> Any:
    """The config's launcher; raises ConfigError where its workers could not share the study's storage."""
    launcher = build(settings.config.launcher, "launcher")
    local = isinstance(launcher, LocalLauncher) or settings.typed.launcher.get("cluster") == "local"
    storage = settings.typed.search.storage
    if not local and not str(storage).startswith("postgresql"):
        raise ConfigError(
            f"launcher: workers on other hosts cannot share search.storage={storage or 'null, a journal on this one'}: "
            "give search.storage=postgresql://USER@HOST/DATABASE"
        )
    return launcher


def in_this_process(settings: Settings) -> bool:
    """Is there one worker only, and no launcher that wants it elsewhere?"""
    return settings.typed.search.workers == 1 and isinstance(check_launcher(settings), LocalLauncher)


def launch(study: "optuna.Study", settings: Settings, observers: Sequence[Observer] = ()) -> None:
    """Start the workers and watch them until the study is complete. One that dies does not stop the others.

    Raises WorkersDiedError when none is left before that.
    """
    wanted = settings.typed.search.n_trials
    n = min(settings.typed.search.workers, wanted - n_ended(study))
    folders = [word for folder in settings.folders for word in ("--config-dir", str(folder.resolve()))]
    work = partial(join, (*settings.overrides, *folders))
    starting = check_launcher(settings).start(work, n, settings.out / "workers")
    with watching(study, wanted, observers) as look, starting as jobs:
        watch(jobs, look)
    if n_ended(study) < wanted:
        raise WorkersDiedError(f"no worker is left and {wanted - n_ended(study)} trials are missing")


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


def join(words: Sequence[str], rank: int) -> None:
    """Be `autoprune worker`; `rank` is who of those that were started together."""
    from search.cli import main

    if code := main(["worker", *words]):
        sys.exit(code)


def words_for_others(settings: Settings) -> list[str]:
    """What was said on the command line, as far as another host must know it too."""
    return [word for word in map(spelled, settings.overrides) if for_others(word)]


def as_begun(settings: Settings, packages: Sequence[str] = ()) -> Settings:
    """The settings of the study that is joined: what it was begun with, then what was said here.

    Raises ConfigError where its storage would have this host run code that nobody here has named: `search.study.trust`.
    """
    place = StudyStorage.of(settings)
    study = loop.existing(place.out, place.name, place.url, place.patience)
    if study is None:
        where = settings.config.search.storage or place.out
        raise ConfigError(f"there is no study '{place.name}' in {where} to join: begin it with autoprune study")
    begun = check_words(study.user_attrs.get(loop.WORDS, []), settings)
    joined = compose([*begun, *settings.overrides], settings.folders)
    check_code(joined, settings, packages)
    return joined
