"""What the commands do, once their words are understood. Heavy imports stay inside."""

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

    from autoprune_lab.records import Records
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


def evaluate(settings: Settings, pruner_file: Path | None, packages: Sequence[str], baseline: bool) -> None:
    """Print accuracy per kind with intervals, cost and speed, of one pruner and of the unpruned model."""
    from search import bench, preflight
    from search.arm import build_pruner, load_pruner

    pruner = load_pruner(pruner_file, packages) if pruner_file else build_pruner(settings.config)
    preflight.check_evaluation(settings, pruner)
    opened = bench.open_bench(bench.load(settings.config), settings.config, progress=sys.stderr.isatty())
    runs = {"pruned": opened.run(pruner)} | ({"unpruned": opened.run(None)} if baseline else {})
    print(f"model  {settings.typed.model['path']}\npolicy {pruner.policy}\nbudget {pruner.budget}\n")
    print(evaluation_table(runs))


def compare(folders: Sequence[Path], ratios: Sequence[float], picture: Path, report: bool) -> None:
    """Print one row a study and draw their fronts into one picture."""
    from search.results import StudyResult, comparison, overlay
    from search.table import table

    studies = [StudyResult.read(folder) for folder in folders]
    frame = comparison(studies, ratios, report)
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    print(table([str(column) for column in frame.columns], rows))
    picture.parent.mkdir(parents=True, exist_ok=True)
    overlay(studies, picture, report)
    print(f"\npicture  {picture}")


def train(out: Path, seed: int, steps: int | None) -> None:
    """Train the embedded model from scratch."""
    from autoprune_lab.testbed.training.run import STEPS
    from autoprune_lab.testbed.training.run import train as train_model

    train_model(out, seed, steps=steps or STEPS)


def evaluation_table(runs: "dict[str, Records]") -> str:
    """One column a run, one line a kind, then the mean, the cost and the speed."""
    from search.table import interval, table

    def scored(records: "Records", kind: str | None) -> str:
        score = records.score if kind is None else records.by_kind()[kind]
        return f"{score:.3f} {interval(*records.interval(kind))}"

    kinds = list(next(iter(runs.values())).by_kind())
    lines: list[list[Any]] = [[kind, *(scored(records, kind) for records in runs.values())] for kind in kinds]
    lines.append(["mean of kinds", *(scored(records, None) for records in runs.values())])
    lines.append(["FLOPs ratio", *(records.flops_ratio for records in runs.values())])
    lines.append(["mean tokens", *(f"{records.mean_tokens:.1f}" for records in runs.values())])
    lines.append(["samples/s", *(f"{records.samples_per_second:.1f}" for records in runs.values())])
    return table(["accuracy", *(f"{name} [95 % interval]" for name in runs)], lines)


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
