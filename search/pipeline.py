"""A study from the first check to the printed result; and what a worker does for one that was begun elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.command_line import reported, search_here_last, speaking
from search.config import threads
from search.config.experiment import Experiment
from search.config.goal import OWN_SCORE, SCORES
from search.config.trust import words_for_others
from search.study.storage import StudyStorage

if TYPE_CHECKING:
    import optuna

    from search.results.study import Study
    from search.results.study_result import StudyResult
    from search.study.objective import Objective
    from search.study.proposals import OpenStudy
    from search.study.trials import Observer


def run(experiment: Experiment, fresh: bool = False) -> "Study":
    """Check, open, search, compare on the report split; KeyboardInterrupt passes, and finished trials are kept.

    `fresh`: an old study of that name is put aside. Raises ConfigError for every mistake that can be found before a
    model is loaded, with nothing written.
    """
    from search.results.page.keeping import kept
    from search.results.study import Study
    from search.study import preflight
    from search.tracking.background import tracked

    study = _open(experiment, _check(experiment), fresh)
    preflight.tell_pinned(experiment.typed)
    with tracked(study, experiment) as observers, kept(study, experiment.out) as page:
        _search(study, experiment, [*observers, page])
        _report(study, experiment)
        result = Study.read(experiment.out)
        from search.results import pictures  # here: before the first trial nobody waits for matplotlib

        pictures.draw(result)
    return result


@contextmanager
def open_study(experiment: Experiment) -> "Iterator[OpenStudy]":
    """A study, begun or resumed, for `search.ask` and `search.tell`; at the end its tables are written, and mirrored.

    What was asked and not told then waits for whoever asks next. The report is made by `run`, once `search.n_trials`
    have ended. Raises ConfigError as `run` does.
    """
    from search.results import study_result
    from search.results.page.keeping import kept
    from search.study.proposals import OpenStudy
    from search.tracking.background import tracked

    study = _open(experiment, _check(experiment), fresh=False)
    liveness = StudyStorage.of(experiment.typed).liveness
    with (
        tracked(study, experiment) as observers,
        kept(study, experiment.out) as page,
        liveness.enter() as worker,
    ):
        opened = OpenStudy(study, experiment, worker, lambda: _objective(experiment), [*observers, page])
        try:
            yield opened
        finally:
            opened.put_back()
            study_result.write(study, experiment.settings)


def check(experiment: Experiment) -> None:
    """Raise ConfigError for every mistake that `run` finds before a model is loaded; nothing is written."""
    from search.study import loop

    made_of = _check(experiment)
    if (before := loop.existing(StudyStorage.of(experiment.typed))) is not None:
        loop.check_same(before, made_of)


def work(experiment: Experiment, packages: Sequence[str] = ()) -> None:
    """Join a study that was begun elsewhere and run trials until it is complete. Logs nothing, reports nothing.

    Its pruners may be made of code of `packages` too.
    """
    from search.study import loop, workers

    experiment = workers.as_begun(experiment, packages)
    made_of = _check(experiment)
    study = loop.open_study(StudyStorage.of(experiment.typed), made_of)
    loop.run(study, _objective(experiment), experiment)


def join(overrides: Sequence[str], folders: Sequence[Path], rank: int) -> None:
    """Be `autoprune worker` in a process that a launcher started; `rank` is who of those that it started."""
    from search.study import workers

    def begin() -> None:
        experiment = Experiment.compose(overrides, folders)
        if not workers.is_local(experiment):  # of local ones, each was given its part by the launcher
            threads.use(experiment.typed.threads)
        work(experiment)

    search_here_last()
    with speaking():
        code = reported(begin)
    if code:
        sys.exit(code)


def show(result: "StudyResult") -> None:
    """Print a finished study's tables, and where its files are."""
    from search.results.episodes import episodes_table
    from search.results.report import TUNED, report_table, trials_table
    from search.results.study_result import FILM, PAGE, PICTURE, REPORT_PICTURE
    from search.tracking.settings import where

    out, config = result.folder, result.config
    by = "" if result.score == OWN_SCORE else f", score: {SCORES.get(result.score, result.score)}"
    print(f"\nstudy {config['study']}: tune split{by}\n\n{trials_table(result.trials)}")
    print(f"\nthe front and other arms: report split, no trial saw these samples\n\n{report_table(result.report)}")
    if not result.episodes.empty:
        print(f"\nepisodes of a closed loop, other arms at the FLOPs of the knee\n\n{episodes_table(result.episodes)}")
    shown = [out / name for name in (PICTURE, REPORT_PICTURE, FILM) if (out / name).is_file()]
    print(f"\npage           {out / PAGE}\npictures       {' '.join(map(str, shown))}")
    print(f"tuned pruners  {out / TUNED}/trial-*.yaml\ntables         {out}/*.csv")
    if config["tracking"] is not None:
        print(f"MLflow         {where(config['tracking']['uri'])}")


def _check(experiment: Experiment) -> dict[str, Any]:
    """Every mistake that can be found before a model is loaded; what the study is made of."""
    import optuna

    from search.study import model_evaluator, preflight, workers

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # below it, Ctrl-C prints a traceback
    StudyStorage.of(experiment.typed)
    workers.check_launcher(experiment)
    checkpoint = preflight.check_study(experiment)
    return experiment.made_of(model_evaluator.weights_mark(checkpoint))


def _open(experiment: Experiment, made_of: dict[str, Any], fresh: bool) -> "optuna.Study":
    """The study, new or as it was left, with its baselines and what other hosts must know."""
    from search.study import loop
    from search.study.archive import put_aside

    storage = StudyStorage.of(experiment.typed)
    if fresh:
        put_aside(storage)
    elif (before := loop.existing(storage)) is not None:
        loop.check_same(before, made_of)
    study = loop.open_study(storage, made_of)
    storage.exclusively(lambda: loop.enqueue(study, experiment.baselines))
    study.set_user_attr(loop.WORDS, words_for_others(experiment.settings))
    return study


def _search(study: "optuna.Study", experiment: Experiment, observers: "Sequence[Observer]") -> None:
    """Run what is missing: here, or by workers of their own."""
    from search.study import loop, workers
    from search.study.calibrator import is_uncalibrated
    from search.study.trials import n_ended

    if n_ended(study) >= experiment.typed.search.n_trials:
        return
    if experiment.typed.search.workers == 1 and workers.is_local(experiment):
        return loop.run(study, _objective(experiment), experiment, observers)
    if is_uncalibrated(pruner := experiment.pruner()):  # once, before the workers would each do it
        _objective(experiment).calibrate(study, pruner)
    settings = experiment.settings
    folders = [folder.resolve() for folder in settings.folders]
    workers.launch(study, experiment, partial(join, settings.overrides, folders), observers)


def _objective(experiment: Experiment) -> "Objective":
    from search.study.front_pictures import FrontPictures
    from search.study.model_evaluator import open_evaluator
    from search.study.objective import Objective

    evaluator = open_evaluator(experiment.model, experiment.task, experiment.typed, progress=True)
    pictures = FrontPictures(experiment.out, evaluator) if experiment.typed.search.pictures else None
    return replace(Objective.of(experiment, replace(evaluator, tells=True)), illustrate=pictures)


def _report(study: "optuna.Study", experiment: Experiment) -> None:
    """Write the tables and the tuned pruners, measure the best and the other arms on the report split.

    Then the patches that the best keep of some samples are written down, for the page, and episodes are played.

    Where no label was read and the report split has none, the answers are set against the unpruned model's.
    """
    from search.results import episodes, report, study_result
    from search.results.page import patches
    from search.study.label_free import agreeing
    from search.study.model_evaluator import ModelEvaluator, open_evaluator

    used: list[ModelEvaluator] = []

    def open_report() -> ModelEvaluator:
        opened = open_evaluator(experiment.model, experiment.report_task, experiment.typed, progress=True)
        used.append(opened)
        if experiment.goal.score == OWN_SCORE or any(sample.answers for sample in opened.prepared.samples):
            return opened
        print("autoprune: the report split has no labels: its score is the agreement of answers", file=sys.stderr)
        return agreeing(opened)

    front = study_result.write(study, experiment.settings)
    tuned = report.tuned_pruners(study, experiment, front)
    frame = report.evaluate_report(
        experiment.out,
        experiment.typed.report,
        front,
        tuned,
        experiment.arms,
        open_report,
        experiment.goal.score,
    )
    for evaluator in used:  # none where the report was there already
        knee = [front.labels[front.knee()]] if front.labels else []
        numbers = {int(number) for number in (*frame["trial"].dropna(), *knee)}
        patches.write(experiment.out, evaluator, {number: tuned[number] for number in sorted(numbers)})
    if (task := experiment.episodes) is None:
        return episodes.forget(experiment.out)
    opened = partial(open_evaluator, experiment.model, task, experiment.typed, progress=True)
    episodes.evaluate_episodes(experiment.out, experiment.typed.report, front, tuned, experiment.arms, opened)
