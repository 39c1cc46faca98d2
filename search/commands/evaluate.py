"""`autoprune evaluate`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import composed

if TYPE_CHECKING:
    from autoprune_lab.records import Records
    from autoprune_lab.tasks.base import Task

SUMMARY = "measure one pruner: accuracy per kind of question, cost, speed"
DESCRIPTION = f"""\
Run one pruner over a task and print accuracy per kind of question with 95 % intervals, FLOPs ratio, mean visual
tokens per layer and samples per second, with the unpruned model beside it.
{composed.ABOUT}"""
EXAMPLES = """\
  autoprune evaluate policy=fixed budget.flops_ratio=0.35
  autoprune evaluate method=pdrop budget.mean_tokens=64
  autoprune evaluate policy=layerwise scorer=random task.split=report task.per_kind=100
  autoprune evaluate --pruner runs/logistic_adaptive/tuned/trial-12.yaml --no-baseline"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, or a tuned pruner in place of its own."""
    composed.add_arguments(parser)
    parser.add_argument("--pruner", type=Path, metavar="FILE", help="a tuned pruner instead of the config's")
    parser.add_argument("--package", action="append", default=[], help="a package that FILE may name code of")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the unpruned model")


def run(given: argparse.Namespace) -> int:
    """Print accuracy per kind with intervals, cost and speed, of one pruner and of the unpruned model."""
    settings = composed.settings(given)
    if settings is None:
        return 0
    from search import bench, preflight
    from search.arm import build_pruner, load_pruner

    pruner = load_pruner(given.pruner, given.package) if given.pruner else build_pruner(settings.config)
    preflight.check_evaluation(settings, pruner)
    opened = bench.open_bench(bench.load(settings.config), settings.config, progress=sys.stderr.isatty())
    opened.prefixes = None  # the speed is reported: every layer runs
    pruner = opened.calibrated(pruner)
    runs = {"pruned": opened.run(pruner)} | ({} if given.no_baseline else {"unpruned": opened.run(None)})
    print(f"model  {settings.typed.model['path']}\npolicy {pruner.policy}\nbudget {pruner.budget}\n")
    print(evaluation_table(runs))
    if official := official_table(opened.prepared.task, runs):
        print(f"\n{official}")
    return 0


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
    lines.append(["scoring cost", *(f"{records.scoring_ratio:.4f}" for records in runs.values())])
    lines.append(["mean tokens", *(f"{records.mean_tokens:.1f}" for records in runs.values())])
    lines.append(["samples/s", *(f"{records.samples_per_second:.1f}" for records in runs.values())])
    return table(["accuracy", *(f"{name} [95 % interval]" for name in runs)], lines)


def official_table(task: "Task", runs: "dict[str, Records]") -> str:
    """The benchmark's own figures, a column a run; empty where it has none beside the accuracies."""
    from search.table import table

    found = {name: task.summary(records.rows) for name, records in runs.items()}
    figures = list(next(iter(found.values())))
    rows = [[figure, *(f"{found[name].get(figure, float('nan')):.4f}" for name in runs)] for figure in figures]
    return table([f"{task.name}, official", *runs], rows) if figures else ""
