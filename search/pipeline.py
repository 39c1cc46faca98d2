"""Conducts a study from the first check to the printed result. Heavy imports stay inside."""

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from search.config.compose import Settings
from search.study.storage import StudyStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import optuna

    from autoprune_lab.models.checkpoint import VLM
    from search.study.objective import Objective
    from search.study.preflight import CheckedStudy
    from search.study.trials import Observer


def study(settings: Settings, fresh: bool = False) -> None:
    """Check, open, search, compare on the report split, print. KeyboardInterrupt passes; finished trials are kept."""
    from search.results import pictures, study_result
    from search.study import model_evaluator, preflight
    from search.tracking.settings import tracked

    checked, made_of = _check(settings)
    opened = _open(settings, checked, made_of, fresh)
    preflight.tell_pinned(settings)
    model = cache(lambda: model_evaluator.load(settings.config))
    with tracked(opened, settings) as observers:
        _search(opened, settings, lambda: _objective(settings, checked, model()), observers)
        beside = _report(opened, settings, checked, model)
        pictures.draw(study_result.StudyResult.read(settings.out))
    _print_study(settings, study_result.StudyResult.read(settings.out), beside)


def work(settings: Settings, packages: "Sequence[str]" = ()) -> None:
    """Join a study that was begun elsewhere and run trials until it is complete. Logs nothing, reports nothing.

    Its pruners may be made of code of `packages` too.
    """
    from search.study import loop, model_evaluator, workers

    settings = workers.as_begun(settings, packages)
    checked, made_of = _check(settings)
    place = StudyStorage.of(settings)
    opened = loop.open_study(place.out, place.name, made_of, place.url, place.heartbeat, place.patience)
    loop.run(opened, _objective(settings, checked, model_evaluator.load(settings.config)), settings)


def _check(settings: Settings) -> "tuple[CheckedStudy, dict[str, Any]]":
    """Every mistake that can be found before a model is loaded; what the study is made of."""
    import optuna

    from search.study import loop, model_evaluator, preflight, workers

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # below it, Ctrl-C prints a traceback
    StudyStorage.of(settings)
    workers.check_launcher(settings)
    checked = preflight.check_study(settings)
    return checked, loop.settings_print(settings, model_evaluator.weights_mark(checked.checkpoint))


def _open(settings: Settings, checked: "CheckedStudy", made_of: dict[str, Any], fresh: bool) -> "optuna.Study":
    """The study, new or as it was left, with its baselines and what other hosts must know."""
    from search.study import loop, workers
    from search.study.archive import put_aside

    place = StudyStorage.of(settings)
    if fresh:
        put_aside(place)
    elif (before := loop.existing(place.out, place.name, place.url, place.patience)) is not None:
        loop.check_same(before, made_of)
    opened = loop.open_study(place.out, place.name, made_of, place.url, place.heartbeat, place.patience)
    place.alone(lambda: loop.enqueue(opened, checked.baselines))
    opened.set_user_attr(loop.WORDS, workers.words_for_others(settings))
    return opened


def _search(
    study: "optuna.Study", settings: Settings, objective: "Callable[[], Objective]", observers: "Sequence[Observer]"
) -> None:
    """Run what is missing: here, or by workers of their own."""
    from search.study import loop, workers
    from search.study.trials import n_ended

    if n_ended(study) >= settings.typed.search.n_trials:
        return
    if workers.in_this_process(settings):
        loop.run(study, objective(), settings, observers)
    else:
        workers.launch(study, settings, observers)


def _objective(settings: Settings, checked: "CheckedStudy", model: "VLM") -> "Objective":
    from search.study import model_evaluator
    from search.study.objective import Objective

    prepared = model_evaluator.open_evaluator(model, settings.config, progress=sys.stderr.isatty())
    return Objective(settings.config, settings.typed.budget, checked.space, prepared)


def _report(study: "optuna.Study", settings: Settings, checked: "CheckedStudy", model: "Callable[[], VLM]") -> Any:
    """Write the tables and the tuned pruners, measure the best and the other arms on the report split."""
    from search.results import report, study_result
    from search.study import model_evaluator, preflight

    front = study_result.write(study, settings)
    tuned = report.tuned_pruners(study, settings, front)
    return report.evaluate_report(
        settings,
        front,
        tuned,
        checked.arms,
        lambda: model_evaluator.open_evaluator(
            model(), preflight.report_config(settings), progress=sys.stderr.isatty()
        ),
    )


def _print_study(settings: Settings, result: Any, beside: Any) -> None:
    from search.results.report import TUNED, report_table, trials_table
    from search.results.study_result import PICTURE, REPORT_PICTURE
    from search.tracking.settings import where

    out = settings.out
    print(f"\nstudy {settings.typed.study}: tune split\n\n{trials_table(result.trials)}")
    print(f"\nthe front and other arms: report split, no trial saw these samples\n\n{report_table(beside)}")
    print(f"\npictures       {out / PICTURE} {out / REPORT_PICTURE}")
    print(f"tuned pruners  {out / TUNED}/trial-*.yaml\ntables         {out}/*.csv")
    if settings.typed.tracking is not None:
        print(f"MLflow         {where(settings.typed.tracking)}")
