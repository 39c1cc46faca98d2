"""Which search finds the better front? Feasible hypervolume at 40 and 80 trials: `python -m benchmarks.search`.

The objective is the embedded model's, recorded once by `benchmarks.tabulate` and interpolated (`benchmarks.recorded`),
so a study takes seconds. Every search runs the default space with the published baseline first, as `autoprune study`
does, for the same seeds. The hypervolume is the area left of FLOPs ratio 0.5 and above score 0. The first arm is what
the others are tested against: paired Wilcoxon over the seeds, two-sided, not corrected for the number of tests.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import wilcoxon
from tqdm import tqdm

from autoprune_lab.fronts.front import ParetoFront
from benchmarks.recorded import NEAREST, Recorded
from search.config.compose import compose
from search.config.space import Space
from search.study.objective import Objective
from search.study.samplers import sampler

BOUND = 0.5
DATA = Path("benchmarks/data/objective-shapes-s0.npz")
TPE = "search.sampler.n_startup_trials"
ARMS = {
    "tpe, 10 random first": ["search=tpe", f"{TPE}=10"],
    "tpe, 20 random first": ["search=tpe", f"{TPE}=20"],
    "tpe, 40 random first": ["search=tpe", f"{TPE}=40"],
    "tpe, 40, one by one": [
        *("search=tpe", f"{TPE}=40"),
        *("search.sampler.multivariate=false", "search.sampler.group=false"),
    ],
    "gp": ["search=gp"],
    "gp, low end in reach": ["search=gp", "space.pruner.budget.flops_ratio.low=0.245"],
    "nsga2": ["search=nsga2"],
    "nsga3": ["search=nsga3"],
    "qmc": ["search=qmc"],
    "grid": ["search=grid"],
    "random": ["search=random"],
}


def one_study(recorded: Recorded, words: list[str], seed: int, checkpoints: list[int]) -> dict[str, float]:
    """Hypervolume of the feasible front after so many trials, the share of refused trials, CPU seconds."""
    settings = compose(["policy=logistic_adaptive", f"seed={seed}", *words])
    space = Space.from_config(settings.config)
    objective = Objective(settings.config, settings.typed.budget, space, recorded)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for i, baseline in enumerate(settings.typed.search.baselines):
        study.enqueue_trial(space.complete(baseline, settings.config, f"baseline {i}"))
    start, row = time.process_time(), {}
    for done in range(max(checkpoints)):
        study.sampler = sampler(settings, space, done)
        study.optimize(objective, n_trials=1)
        if done + 1 in checkpoints:
            row[f"hypervolume@{done + 1}"] = hypervolume(study)
    ran = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    row["feasible"] = len(ran) / max(checkpoints)
    return row | {"seconds": time.process_time() - start}


def hypervolume(study: optuna.Study) -> float:
    """Of the trials within the bound."""
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    within = [trial.values for trial in trials if max(trial.constraints.values()) <= 0]
    front = ParetoFront.of([values[0] for values in within], [values[1] for values in within])
    return front.hypervolume(reference_cost=BOUND)


def summarise(rows: list[dict[str, Any]], checkpoints: list[int]) -> list[dict[str, Any]]:
    """One row an arm: means and standard deviations over its seeds, and p against the first arm."""
    table = []
    first = {row["seed"]: row for row in rows if row["arm"] == next(iter(ARMS))}
    for name in ARMS:
        mine = {row["seed"]: row for row in rows if row["arm"] == name}
        if not mine:
            continue
        line: dict[str, Any] = {"arm": name, "seeds": len(mine)}
        for count in checkpoints:
            key = f"hypervolume@{count}"
            values = np.array([row[key] for row in mine.values()])
            line |= {key: values.mean(), f"sd@{count}": values.std(ddof=1) if len(values) > 1 else 0.0}
            both = sorted(set(mine) & set(first))
            gains = [mine[seed][key] - first[seed][key] for seed in both]
            line[f"p@{count}"] = float(wilcoxon(gains).pvalue) if np.any(gains) and len(gains) > 1 else None
        for key in ("feasible", "seconds"):
            line[key] = float(np.mean([row[key] for row in mine.values()]))
        table.append(line)
    return table


def show(table: list[dict[str, Any]], checkpoints: list[int]) -> None:
    """Print the table."""
    heads = "".join(f"{f'HV@{count}':>10}{'sd':>8}{'p':>8}" for count in checkpoints)
    print(f"{'search':<22}{'seeds':>6}{heads}{'ran':>7}{'CPU s':>8}")
    for line in table:
        cells = ""
        for count in checkpoints:
            p = line[f"p@{count}"]
            cells += f"{line[f'hypervolume@{count}']:>10.4f}{line[f'sd@{count}']:>8.4f}"
            cells += f"{'-':>8}" if p is None else f"{p:>8.3f}"
        print(f"{line['arm']:<22}{line['seeds']:>6}{cells}{line['feasible']:>7.2f}{line['seconds']:>8.1f}")


def main() -> None:
    """Run what is missing in the JSON file, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--at", type=int, nargs="+", default=[40, 80])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, help="JSON; studies that it holds already are not run again")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    recorded = Recorded.read(given.data)
    error, left = recorded.left_out_error()
    known = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {"studies": []}
    about = {"settings": len(recorded.tokens), "nearest": NEAREST, "left_out_rmse": error, "unexplained": left}
    rows = known["studies"] if known.get("recorded") == about else []
    print(
        f"{about['settings']} recorded settings; left out, a score is off by {error:.4f} (rms), "
        f"{left:.2f} of its variance"
    )
    wanted = [(name, seed) for seed in range(given.seeds) for name in given.arms]
    for name, seed in tqdm([w for w in wanted if w not in {(row["arm"], row["seed"]) for row in rows}], unit="study"):
        rows.append({"arm": name, "seed": seed} | one_study(recorded, ARMS[name], seed, given.at))
        if given.out:
            content = {"recorded": about, "studies": rows, "table": summarise(rows, given.at)}
            given.out.write_text(json.dumps(content, indent=1) + "\n")
    show(summarise(rows, given.at), given.at)


if __name__ == "__main__":
    main()
