"""Conducts a study from the first check to the printed result. Heavy imports stay inside."""

import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

    from search.tracking import StudyRun


def study(settings: Settings, fresh: bool = False) -> None:
    """Check, search, compare on the report split, print. KeyboardInterrupt passes; finished trials are kept."""
    import optuna

    from search import bench, preflight, report, results
    from search import study as studies
    from search.objective import Objective

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # below it, Ctrl-C prints a traceback
    checked = preflight.check_study(settings)
    made_of = studies.settings_print(settings, bench.weights_mark(checked.checkpoint))
    before = studies.existing(settings.out, settings.typed.study)
    if before is not None and not fresh:
        studies.check_same(before, made_of)
    if fresh:
        _put_aside(settings.out)
    model = cache(lambda: bench.load(settings.config))
    opened = studies.open_study(settings.out, settings.typed.study, made_of)
    studies.enqueue(opened, checked.baselines)
    with _tracked(opened, settings) as observers:
        if studies.n_ended(opened) < settings.typed.search.n_trials:
            prepared = bench.open_bench(model(), settings.config, progress=sys.stderr.isatty())
            objective = Objective(settings.config, settings.typed.budget, checked.space, prepared)
            studies.run(opened, objective, settings, observers)
        front = results.write(opened, settings)
        tuned = report.tuned_pruners(opened, settings, front)
        beside = report.evaluate_report(
            settings,
            front,
            tuned,
            checked.arms,
            lambda: bench.open_bench(model(), preflight.report_config(settings), progress=sys.stderr.isatty()),
        )
        results.draw(results.StudyResult.read(settings.out))
    _print_study(settings, results.StudyResult.read(settings.out), beside)


@contextmanager
def _tracked(study: "optuna.Study", settings: Settings) -> "Iterator[list[StudyRun]]":
    """The observers of a study; their runs are closed at the end, whatever happened."""
    if settings.typed.tracking is None:
        yield []
        return
    from search.arm import build
    from search.results import artifacts, front_of

    run = build(settings.config.tracking, "tracking").begin(study, settings)
    finished = False
    try:
        yield [run]
        finished = True
    finally:
        front = front_of(study)
        metrics = {"hypervolume": front.hypervolume(), "front_points": float(len(front.costs))}
        run.end(artifacts(settings.out) if finished else {}, metrics, finished)


def _put_aside(out: Path) -> None:
    """Rename the old study's folder to the first free NAME.old-N."""
    if out.exists():
        n = next(n for n in range(1, 10_000) if not out.with_name(f"{out.name}.old-{n}").exists())
        out.rename(out.with_name(f"{out.name}.old-{n}"))


def _print_study(settings: Settings, result: Any, beside: Any) -> None:
    from search.report import TUNED, report_table, trials_table
    from search.results import PICTURE, REPORT_PICTURE

    out = settings.out
    print(f"\nstudy {settings.typed.study}: tune split\n\n{trials_table(result.trials)}")
    print(f"\nthe front and other arms: report split, no trial saw these samples\n\n{report_table(beside)}")
    print(f"\npictures       {out / PICTURE} {out / REPORT_PICTURE}")
    print(f"tuned pruners  {out / TUNED}/trial-*.yaml\ntables         {out}/*.csv")
    if settings.typed.tracking is not None:
        print(f"MLflow         mlflow ui --backend-store-uri {settings.typed.tracking['uri']}")
