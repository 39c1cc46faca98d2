"""Trials per minute of a study on the embedded model, against naive loops: `python -m benchmarks.study`.

The same settings, drawn from the default space, are tried by every arm; arms take turns within each round.

- study: what `autoprune study` runs. Batches, vision features and complexities kept, refused trials cost arithmetic.
- naive: the same trial at batch 1, pictures and complexities read anew in every trial.
- naive, one pass: batch 1, pictures read anew; complexities are not read beforehand, the cost is seen afterwards.

CPU seconds come first: a busy machine stretches wall time. Figures of the embedded model.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import torch

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.evaluation.timing import Seconds, interleaved, stopwatch
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import BudgetError
from search.config.experiment import Experiment
from search.config.space import Space
from search.study.model_evaluator import ModelEvaluator, open_evaluator
from search.study.objective import Objective

CPU = torch.device("cpu")


def settings_to_try(space: Space, n: int) -> list[dict[str, object]]:
    """Parameters of `n` trials, from a quasi-random design; some will be refused, as in a study."""
    design = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=1))
    trials = []
    for _ in range(n):
        trial = design.ask()
        space.suggest(trial)
        design.tell(trial, 0.0)
        trials.append(trial.params)
    return trials


def trial_arm(experiment: Experiment, opened: ModelEvaluator, params: list[dict[str, object]], forget: bool) -> Seconds:
    """All trials by the study's own objective; with `forget` nothing is carried from one to the next."""
    objective = Objective.of(experiment, opened)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for one in params:
        study.enqueue_trial(one)
    with stopwatch(CPU) as spent:
        for _ in params:
            if forget:
                opened.known.clear()
                objective.known.clear()
            study.optimize(objective, n_trials=1)
    return spent


def one_pass_arm(experiment: Experiment, opened: ModelEvaluator, params: list[dict[str, object]]) -> Seconds:
    """All trials without objective: answer sample by sample, stop where a budget cannot be met."""
    pruners: list[Pruner] = [experiment.pruner(experiment.space.changes(one)) for one in params]
    with stopwatch(CPU) as spent:
        for pruner in pruners:
            try:
                evaluate(opened.vlm, opened.prepared, pruner)
            except BudgetError:
                continue
    return spent


def measure(per_kind: int, n_trials: int, rounds: int, batch_size: int) -> list[dict[str, object]]:
    """One row an arm: medians over the rounds, and the ratio of every round's to the naive one's."""
    experiment = Experiment.compose([f"task.per_kind={per_kind}", f"batch_size={batch_size}", "cache=null"])
    vlm, params = experiment.model, settings_to_try(experiment.space, n_trials)
    ours = open_evaluator(vlm, experiment.task, experiment.typed)
    ours.complexities(experiment.pruner())
    alone = ModelEvaluator(vlm, prepare(vlm, ours.prepared.task, batch_size=1, keep_features=False))
    arms: dict[str, Callable[[], Seconds]] = {
        "naive": lambda: trial_arm(experiment, alone, params, forget=True),
        "naive, one pass": lambda: one_pass_arm(experiment, alone, params),
        "study": lambda: trial_arm(experiment, ours, params, forget=False),
    }
    seconds = interleaved(list(arms.values()), rounds)
    rows = []
    for i, name in enumerate(arms):
        cpu, wall = np.median(seconds[:, i], axis=0) / n_trials
        faster = np.median(seconds[:, 0] / seconds[:, i], axis=0)
        rows.append(
            {
                "arm": name,
                "trials_per_cpu_minute": 60 / cpu,
                "trials_per_minute": 60 / wall,
                "cpu_seconds_per_trial": cpu,
                "wall_seconds_per_trial": wall,
                "times_naive_cpu": faster[0],
                "times_naive_wall": faster[1],
            }
        )
    return rows


def main() -> None:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-kind", type=int, default=50, help="samples of each of the eight kinds")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = measure(given.per_kind, given.trials, given.rounds, given.batch_size)
    print(f"{'arm':<20}{'trials/CPU min':>16}{'trials/min':>12}{'CPU s':>9}{'wall s':>9}{'x CPU':>8}{'x wall':>8}")
    for row in rows:
        label, figures = f"{row['arm']:<20}", list(row.values())[1:]
        print(label + "{:>16.2f}{:>12.2f}{:>9.2f}{:>9.2f}{:>8.2f}{:>8.2f}".format(*figures))
    if given.out:
        made_of = {name: value for name, value in vars(given).items() if name != "out"}
        machine = {"threads": torch.get_num_threads(), "model": "embedded:shapes-s0"}
        given.out.write_text(json.dumps({"settings": made_of | machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
