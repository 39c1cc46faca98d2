"""Gradients or trials? The best likeness under one FLOPs bound after so many trials, and after as much CPU time.

    nice python -m benchmarks.gradient --out benchmarks/results/gradient.json
    python -m benchmarks.gradient --seeds 1 --trials 2 4 task.per_kind=1 report.task.per_kind=1   # seconds

The experiment is `replay_vispco` with `search.mode=best`, every search starting anywhere: a smooth curve's slope,
midpoint and floor. All maximise what the gradient is of: exp(-KL) to the unpruned model, the mean over the samples of
the tune split. `--trials`: of the gradient search, and of each other; refused ones count. CPU time is the process's,
with all that a search does but loading and the unpruned model's answers; it scatters on a shared machine. Of every
search the best within the bound is measured with labels on the report split. Searches that --out holds are not run
again.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from autoprune_lab.pruner import Pruner
from search.config.experiment import Experiment
from search.config.goal import KL
from search.results.text_table import table
from search.study.label_free import label_free
from search.study.model_evaluator import ModelEvaluator, open_evaluator
from search.study.objective import PRUNER, Objective

GRADIENT = "gradient"
ARMS = (GRADIENT, "tpe", "random")


@dataclass(frozen=True)
class Noting:
    """An evaluator that notes the mean of exp(-KL) of each run."""

    own: Any
    likeness: list[float] = field(default_factory=list)

    def run(self, pruner: Pruner, after_block: Any = None) -> Any:
        """As the own one's, whole."""
        outcome = self.own.run(pruner)
        self.likeness.append(float(outcome.by_sample.mean()))
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def searched(experiment: Experiment, evaluator: ModelEvaluator, n_trials: int) -> dict[str, Any]:
    """After every trial the best likeness so far within the bound, None before there is one, and CPU seconds."""
    objective = Objective.of(experiment, evaluator)
    noting = Noting(objective.evaluator)
    objective = replace(objective, evaluator=noting)  # a plan that was answered already is worth what it was

    def likeness(trial: optuna.Trial) -> float:
        objective(trial)
        same = trial.user_attrs.get("same_as")
        value = noting.likeness[-1] if same is None else study.trials[same].value
        return float(value)

    study = optuna.create_study(direction="maximize", pruner=experiment.stopper)
    best, seconds, start = list[float | None](), list[float](), time.process_time()
    for done in range(n_trials):
        study.sampler = experiment.sampler(done)
        study.optimize(likeness, n_trials=1)
        ran = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best.append(max((trial.values[0] for trial in ran), default=None))
        seconds.append(round(time.process_time() - start, 2))
    chosen = max(ran, key=lambda trial: trial.values[0], default=None)
    return {
        "best": best,
        "seconds": seconds,
        "ran": len(ran),
        "pruner": None if chosen is None else chosen.user_attrs[PRUNER],
        "settings": None if chosen is None else chosen.params,
    }


def composed(arm: str, seed: int, words: Sequence[str]) -> Experiment:
    """The experiment of one search."""
    told = ["experiment=replay_vispco", "tracking=none", "search.mode=best", "search.pruner=null", f"seed={seed}"]
    return Experiment.compose([*told, f"search={arm}", "search.baselines=[]", *words])


def opened(experiment: Experiment) -> list[ModelEvaluator]:
    """The tune and the report split, the unpruned model's answers to the former known."""
    tasks = experiment.task, experiment.report_task
    tune, report = (open_evaluator(experiment.model, task, experiment.typed) for task in tasks)
    label_free(tune, KL).run(experiment.pruner())
    tune.count_gradients(experiment.pruner())
    return [tune, report]


def summarise(rows: Sequence[Mapping[str, Any]], at: Sequence[int]) -> list[dict[str, Any]]:
    """One row a search, means over the seeds; `same time`: of the trials ended when the gradient search had ended."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        limits = {row["seed"]: row["seconds"][-1] for row in rows if row["arm"] == GRADIENT}
        counts = [int(np.searchsorted(row["seconds"], limits[row["seed"]], side="right")) for row in mine]
        line: dict[str, Any] = {"arm": arm, "seeds": len(mine), "trials": len(mine[0]["best"])}
        line |= {f"best@{n}": _mean([row["best"][n - 1] for row in mine]) for n in at if n <= line["trials"]}
        line["trials in the same time"] = float(np.mean(counts))
        line["best in the same time"] = _mean([row["best"][n - 1] for row, n in zip(mine, counts, strict=True)])
        line["ran"] = float(np.mean([row["ran"] for row in mine])) / line["trials"]
        line["seconds a trial"] = float(np.mean([row["seconds"][-1] for row in mine])) / line["trials"]
        line["report"] = _mean([row["report"] for row in mine])
        found.append(line)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one is missing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def main() -> None:
    """Run what is missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, nargs=2, default=[16, 64], metavar=("GRADIENT", "OTHERS"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = {arm: given.trials[0 if arm == GRADIENT else 1] for arm in ARMS}
    made_of = {"words": given.words, "trials": trials}
    known = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}
    rows = known["searches"] if known.get("made_of") == made_of else []
    at = [n for n in (4, 8, 16, 32, 64) if n <= max(given.trials)]
    there = {(row["arm"], row["seed"]) for row in rows}
    wanted = [(arm, seed) for seed in range(given.seeds) for arm in ARMS if (arm, seed) not in there]
    tune, report = opened(composed(GRADIENT, 0, given.words)) if wanted else (None, None)
    for arm, seed in tqdm(wanted, unit="search"):
        experiment = composed(arm, seed, given.words)
        found = searched(experiment, tune, trials[arm])
        pruner = found.pop("pruner")
        by_labels = None if pruner is None else report.run(experiment.stored_pruner(pruner, arm)).score
        rows.append({"arm": arm, "seed": seed, **found, "report": by_labels})
        if given.out:
            content = {"made_of": made_of, "table": summarise(rows, at), "searches": rows}
            given.out.write_text(json.dumps(content) + "\n")
    lines = summarise(rows, at)
    heads = list(dict.fromkeys(head for line in lines for head in line))
    cells = [
        [f"{v:.3f}" if isinstance(v := line.get(head), float) else str(v or "") for head in heads] for line in lines
    ]
    print(table(heads, cells))


if __name__ == "__main__":
    main()
