"""`autoprune evaluate`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search.config import arguments

if TYPE_CHECKING:
    from autoprune_lab.pruner import Pruner
    from autoprune_lab.statistics.records import LeftOut, Records
    from autoprune_lab.tasks.base import Task
    from search.config.compose import Settings
    from search.methods.evaluation_folder import Evaluation, Finished

SUMMARY = "measure one pruner: accuracy per kind of question, cost, speed"
DESCRIPTION = f"""\
Run one pruner over a task and print accuracy per kind of question with 95 % intervals, FLOPs ratio, mean visual
tokens per layer and samples per second, with the unpruned model beside it. Answers are made batch by batch. With
--out they are kept, a row a sample: the same command goes on after a crash, and several processes may share the
work, each with its own --shard, or started by `accelerate launch -m search.cli evaluate ...`. --film draws one
episode of a closed loop decision by decision: what stays of the pictures, complexity, tokens and FLOPs over its time.
{arguments.ABOUT}"""
EXAMPLES = """\
  autoprune evaluate policy=fixed budget.flops_ratio=0.35
  autoprune evaluate method=pdrop budget.mean_tokens=64
  autoprune evaluate policy=layerwise scorer=random task.split=report task.per_kind=100
  autoprune evaluate --pruner runs/logistic_adaptive/tuned/trial-12.yaml --no-baseline
  autoprune evaluate policy=fixed task.per_kind=null --out runs/fixed --shard 1/4
  autoprune evaluate task=driving_closed_loop model=embedded_driving_loop --out runs/drives --film tune-crossing-0"""

UNUSED = {
    "report.task": "an evaluation answers the task itself: task.FIELD=VALUE",
    **dict.fromkeys(("report", "search", "space"), "one pruner is measured"),
    "out": "keep the answers with --out DIR",
}
OF_PRUNER = ("policy", "budget", "scorer", "complexity", "recovery", "method", "pruner")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The experiment, or a tuned pruner in place of its own; where answers are kept, and which are given."""
    arguments.add_arguments(parser)
    parser.add_argument("--pruner", type=Path, metavar="FILE", help="a tuned pruner instead of the config's")
    parser.add_argument("--package", action="append", default=[], help="a package that FILE may name code of")
    parser.add_argument("--no-baseline", action="store_true", help="leave out the unpruned model")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the answers; what stands there is not run again")
    parser.add_argument("--film", metavar="ID", help="of a closed loop: film the episode of sample ID; needs --out")
    parser.add_argument("--shard", metavar="I/N", help="answer one of N parts, I from 1 to N; needs --out")


def run(given: argparse.Namespace) -> int:
    """Print accuracy per kind with intervals, cost and speed, of one pruner and of the unpruned model."""
    unused = UNUSED | (dict.fromkeys(OF_PRUNER, f"--pruner {given.pruner} says it") if given.pruner else {})
    experiment = arguments.experiment(given, unused)
    if experiment is None:
        return 0
    from search.config.early_checks import check_folder
    from search.config.errors import ConfigError

    if given.pruner is None and given.package:
        raise ConfigError(f"--package {given.package[0]} is for code that --pruner FILE names: add --pruner FILE")
    if given.pruner is not None and not given.pruner.is_file():
        raise ConfigError(f"--pruner {given.pruner}: there is no such file")
    if given.pruner is None:
        _check_budget(experiment.settings)
    if given.out is not None:
        check_folder(given.out, "--out")
    from search.methods.evaluation_folder import PRUNED, UNPRUNED, Evaluation, load_pruner
    from search.methods.shards import shard
    from search.study import preflight

    part = shard(given.shard)
    if part.of > 1 and given.out is None:
        raise ConfigError(f"{part.of} shards need a folder in common: add --out DIR")
    _check_film(experiment.task, given.film, given.out)
    pruner = load_pruner(given.pruner, given.package) if given.pruner else experiment.pruner()
    checkpoint = preflight.check_evaluation(experiment, pruner)
    names = (PRUNED,) if given.no_baseline else (PRUNED, UNPRUNED)
    with TemporaryDirectory() if given.out is None else nullcontext(given.out) as out:
        evaluation = Evaluation(experiment, pruner, Path(out), names, part)
        evaluation.begin(checkpoint)
        finished = _run(evaluation, kept=given.out is not None)
    if finished is None:
        return 0
    ran = finished.pruner
    print(f"model  {experiment.typed.model['path']}\npolicy {ran.policy}\nbudget {ran.budget}\n")
    print(evaluation_table(finished.runs))
    if official := official_table(finished.task, finished.runs):
        print(f"\n{official}")
    if left_out := next(iter(finished.runs.values())).left_out:
        print(f"\n{left_out_list(left_out)}")
    if given.film is not None:
        print(f"\nfilm   {_film(evaluation, ran, given.film)}")
    return 0


def _check_film(task: "Task", name: str | None, out: Path | None) -> None:
    """Raise ConfigError where no film can be made: of what is no episode, or without a folder for it."""
    from search.config.errors import ConfigError, close

    if name is None:
        return
    if out is None:
        raise ConfigError(f"--film {name} is written into a folder: add --out DIR")
    known = {sample.id: sample for sample in task.samples()}
    if name not in known:
        raise ConfigError(f"--film {name}: task {task.name} has no such sample{close(name, known)}")
    if task.episode(known[name]) is None:
        raise ConfigError(f"--film {name}: task {task.name} answers a sample once; films are of episodes: leave it out")


def _film(evaluation: "Evaluation", pruner: "Pruner", name: str) -> str:
    """Film the episode; where its files are."""
    import pandas as pd

    from autoprune_lab.evaluation.film import film

    task, stem = evaluation.experiment.task, evaluation.out / f"film-{name}"
    sample = next(sample for sample in task.samples() if sample.id == name)
    shown = film(evaluation.experiment.model, task, sample, pruner)
    gif, picture, rows = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("gif", "png", "csv"))
    shown.write_gif(gif)
    shown.plot().savefig(picture, dpi=100)
    pd.DataFrame(shown.rows()).to_csv(rows, index=False)
    return f"{gif} {picture} {rows}"


def _check_budget(settings: "Settings") -> None:
    """Raise ConfigError for a typed bound that the pruner's own budget does not have."""
    from search.config.errors import ConfigError
    from search.config.overrides import changed_keys

    budget = settings.config["pruner"]["budget"]
    for unit in ("flops_ratio", "mean_tokens"):
        bound = settings.config["budget"][unit]
        if f"budget.{unit}" in changed_keys(settings.overrides) and (budget is None or budget.get(unit) != bound):
            own = "prunes by the policy's own curve" if budget is None else f"has pruner.budget.{unit} of its own"
            chosen = settings.choices["budget"]
            raise ConfigError(
                f"budget.{unit}={bound} has no effect in this command: budget={chosen} {own}; "
                "leave it out or take another budget"
            )


def _run(evaluation: "Evaluation", kept: bool) -> "Finished | None":
    """Run it, and say how to go on where it is not finished."""
    try:
        finished = evaluation.run()
    except BaseException:
        if kept:
            words = f"{evaluation.n_answered()} answers are kept in {evaluation.out}; the same command goes on"
            print(f"\nautoprune: {words}", file=sys.stderr)
        raise
    if finished is None:
        part = evaluation.shard
        print(
            f"shard {part.index}/{part.of} is done: {evaluation.n_answered()} answers are in {evaluation.out}; "
            "the shard that ends last prints the table, as does the same command without --shard"
        )
    return finished


def evaluation_table(runs: "Mapping[str, Records]") -> str:
    """One column a run, one line a kind, then the mean, the cost and the speed."""
    from search.results.text_table import interval, table

    def scored(records: "Records", kind: str | None) -> str:
        score = records.score if kind is None else records.by_kind()[kind]
        return f"{score:.3f} {interval(*records.interval(kind))}"

    kinds = list(next(iter(runs.values())).by_kind())
    lines: list[list[Any]] = [[kind, *(scored(records, kind) for records in runs.values())] for kind in kinds]
    lines.append(["mean of kinds", *(scored(records, None) for records in runs.values())])
    if any(records.left_out for records in runs.values()):
        lines.append(["samples left out", *(str(len(records.left_out)) for records in runs.values())])
    lines.append(["FLOPs ratio", *(records.flops_ratio for records in runs.values())])
    lines.append(["scoring cost", *(f"{records.scoring_ratio:.4f}" for records in runs.values())])
    lines.append(["mean tokens", *(f"{records.mean_tokens:.1f}" for records in runs.values())])
    lines.append(["samples/s", *(f"{records.samples_per_second:.1f}" for records in runs.values())])
    return table(["score", *(f"{name} [95 % interval]" for name in runs)], lines)


def left_out_list(left_out: "Sequence[LeftOut]", most: int = 10) -> str:
    """The samples that could not be shown to the model, counted and named, a line each."""
    lines = [f"{len(left_out)} samples left out, which cannot be shown to the model:"]
    lines += [f"  {sample.id}: {sample.reason}" for sample in left_out[:most]]
    return "\n".join([*lines, *([f"  and {len(left_out) - most} more"] if len(left_out) > most else [])])


def official_table(task: "Task", runs: "Mapping[str, Records]") -> str:
    """The benchmark's own figures, a column a run; empty where it has none beside the accuracies."""
    from search.results.text_table import table

    found = {name: task.summary(records.rows) for name, records in runs.items()}
    figures = list(next(iter(found.values())))
    rows = [[figure, *(f"{found[name].get(figure, float('nan')):.4f}" for name in runs)] for figure in figures]
    return table([f"{task.name}, official", *runs], rows) if figures else ""
