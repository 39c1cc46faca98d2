"""How well does each score rank policies? Spearman of every `search.score` with the task's own on the report split.

    python -m benchmarks.objectives --settings 100 --out benchmarks/results/objectives.json
    python -m benchmarks.objectives --settings 100 pruner.budget.flops_ratio=0.35   # all at one cost
    python -m benchmarks.objectives --settings 4 task.per_kind=2 report.task.per_kind=2   # seconds, to see it work

Settings are a quasi-random design over the experiment's space; those that their budget refuses are passed over and
counted. The true score is the task's own, with labels, on the report split. The row `task` is the tune split's own
score with labels: as well as any can do with these samples.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import optuna
from scipy.stats import spearmanr
from tqdm import tqdm

from autoprune_lab.schedule.budget import BudgetError
from benchmarks.study import settings_to_try
from search.config.experiment import Experiment
from search.config.goal import OWN_SCORE, SCORES
from search.config.overrides import key_of
from search.study.evaluator import Evaluator
from search.study.label_free import label_free
from search.study.model_evaluator import open_evaluator
from search.study.preflight import check_calibrated

TRUE = "report"
PLACES = ("folder", "cache")  # of this host: they change no figure


def measure(experiment: Experiment, n: int) -> list[dict[str, Any]]:
    """One row a setting within reach: FLOPs ratio, every score on the tune split, the true one on the report split."""
    check_calibrated(experiment.pruner(), "pruner.complexity")
    splits = experiment.task, experiment.report_task
    tune, report = (open_evaluator(experiment.model, task, experiment.typed) for task in splits)
    scored: dict[str, Evaluator] = {name: tune if name == OWN_SCORE else label_free(tune, name) for name in SCORES}
    rows = []
    for number, params in enumerate(tqdm(settings_to_try(experiment.space, n), unit="setting")):
        pruner = tune.calibrated(experiment.pruner(experiment.space.changes(params)))
        try:
            true = report.run(pruner)
            found = {name: evaluator.run(pruner).score for name, evaluator in scored.items()}
        except BudgetError:
            continue
        rows.append({"setting": number, "flops_ratio": true.flops_ratio, **found, TRUE: true.score})
    return rows


def ranks(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Spearman's rank correlation of each score with the true one, over the settings; NaN where one is constant."""
    true = [row[TRUE] for row in rows]
    return {name: float(spearmanr([row[name] for row in rows], true).statistic) for name in SCORES}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="the experiment, as for autoprune study")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = measure(Experiment.compose(given.words), given.settings)
    found = ranks(rows)
    print(f"{len(rows)} settings, {given.settings - len(rows)} refused by their budget")
    print("\n".join([f"{'score':<12}{'Spearman':>9}", *(f"{name:<12}{rho:>9.3f}" for name, rho in found.items())]))
    if given.out:
        words = [word for word in given.words if key_of(word) not in PLACES]
        given.out.write_text(json.dumps({"words": words, "spearman": found, "settings": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
