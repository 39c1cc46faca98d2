"""Conducts a study from the first check to the printed result. Heavy imports stay inside."""

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from search.config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import optuna

    from autoprune_lab.models.checkpoint import VLM
    from search.objective import Objective
    from search.preflight import CheckedStudy
    from search.trials import Observer


def study(settings: Settings, fresh: bool = False) -> None:
    """Check, open, search, compare on the report split, print. KeyboardInterrupt passes; finished trials are kept."""
    from search import bench, pictures, preflight, results
    from search.tracking import tracked

    checked, made_of = _check(settings)
    opened = _open(settings, checked, made_of, fresh)
    preflight.tell_pinned(settings)
    model = cache(lambda: bench.load(settings.config))
    with tracked(opened, settings) as observers:
        _search(opened, settings, lambda: _objective(settings, checked, model()), observers)
        beside = _report(opened, settings, checked, model)
        pictures.draw(results.StudyResult.read(settings.out))
    _print_study(settings, results.StudyResult.read(settings.out), beside)


def work(settings: Settings, packages: "Sequence[str]" = ()) -> None:
    """Join a study that was begun elsewhere and run trials until it is complete. Logs nothing, reports nothing.

    Its pruners may be made of code of `packages` too.
    """
    from search import bench, workers
    from search import study as studies
    from search.place import Place

    settings = workers.as_begun(settings, packages)
    checked, made_of = _check(settings)
    place = Place.of(settings)
    opened = studies.open_study(place.out, place.name, made_of, place.url, place.heartbeat, place.patience)
    studies.run(opened, _objective(settings, checked, bench.load(settings.config)), settings)


def _check(settings: Settings) -> "tuple[CheckedStudy, dict[str, Any]]":
    """Every mistake that can be found before a model is loaded; what the study is made of."""
    import optuna

    from search import bench, preflight, workers
    from search import study as studies
    from search.place import Place

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # below it, Ctrl-C prints a traceback
    Place.of(settings)
    workers.check_launcher(settings)
    checked = preflight.check_study(settings)
    return checked, studies.settings_print(settings, bench.weights_mark(checked.checkpoint))


def _open(settings: Settings, checked: "CheckedStudy", made_of: dict[str, Any], fresh: bool) -> "optuna.Study":
    """The study, new or as it was left, with its baselines and what other hosts must know."""
    from search import study as studies
    from search import workers
    from search.fresh import put_aside
    from search.place import Place

    place = Place.of(settings)
    if fresh:
        put_aside(place)
    elif (before := studies.existing(place.out, place.name, place.url, place.patience)) is not None:
        studies.check_same(before, made_of)
    opened = studies.open_study(place.out, place.name, made_of, place.url, place.heartbeat, place.patience)
    place.alone(lambda: studies.enqueue(opened, checked.baselines))
    opened.set_user_attr(studies.WORDS, workers.words_for_others(settings))
    return opened


def _search(
    study: "optuna.Study", settings: Settings, objective: "Callable[[], Objective]", observers: "Sequence[Observer]"
) -> None:
    """Run what is missing: here, or by workers of their own."""
    from search import study as studies
    from search import workers
    from search.trials import n_ended

    if n_ended(study) >= settings.typed.search.n_trials:
        return
    if workers.in_this_process(settings):
        studies.run(study, objective(), settings, observers)
    else:
        workers.launch(study, settings, observers)


def _objective(settings: Settings, checked: "CheckedStudy", model: "VLM") -> "Objective":
    from search import bench
    from search.objective import Objective

    prepared = bench.open_bench(model, settings.config, progress=sys.stderr.isatty())
    return Objective(settings.config, settings.typed.budget, checked.space, prepared)


def _report(study: "optuna.Study", settings: Settings, checked: "CheckedStudy", model: "Callable[[], VLM]") -> Any:
    """Write the tables and the tuned pruners, measure the best and the other arms on the report split."""
    from search import bench, preflight, report, results

    front = results.write(study, settings)
    tuned = report.tuned_pruners(study, settings, front)
    return report.evaluate_report(
        settings,
        front,
        tuned,
        checked.arms,
        lambda: bench.open_bench(model(), preflight.report_config(settings), progress=sys.stderr.isatty()),
    )


def _print_study(settings: Settings, result: Any, beside: Any) -> None:
    from search.report import TUNED, report_table, trials_table
    from search.results import PICTURE, REPORT_PICTURE
    from search.tracking import where

    out = settings.out
    print(f"\nstudy {settings.typed.study}: tune split\n\n{trials_table(result.trials)}")
    print(f"\nthe front and other arms: report split, no trial saw these samples\n\n{report_table(beside)}")
    print(f"\npictures       {out / PICTURE} {out / REPORT_PICTURE}")
    print(f"tuned pruners  {out / TUNED}/trial-*.yaml\ntables         {out}/*.csv")
    if settings.typed.tracking is not None:
        print(f"MLflow         {where(settings.typed.tracking)}")
