"""Which search finds the front, and how soon? Regret in hypervolume after n trials: `python -m benchmarks.search`.

    python -m benchmarks.search --out benchmarks/results/search.json --picture benchmarks/results/search.png

Every search runs on problems whose front is known (`benchmarks.problems`), for the same seeds, with the published
baseline first, as `autoprune study` does; no model runs. Regret is the part of the true front's hypervolume (left of
FLOPs ratio 0.5, above score 0) that the front of the first n trials lacks, in percent. `within 1 %`: trials until the
regret is at most that, the median over the seeds. The first arm, TPE, is what the others are tested against:
paired Wilcoxon over the seeds, two-sided, not corrected for the number of tests.
"""

import argparse
import hashlib
import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import wilcoxon
from tqdm import tqdm

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.fronts.styles import COLOURS
from benchmarks.front_grid import WORLDS, table_of
from benchmarks.problems import BOUND, DATA, Default, Grid, Problem, found

TPE = "search.sampler.n_startup_trials"
GRIDS: dict[str, Problem] = {f"{world}, grid": Grid(world) for world in WORLDS if table_of(world).is_file()}
PROBLEMS = GRIDS | {"shapes, default": Default()}
BASELINE = "tpe"
ARMS = {
    BASELINE: ["search=tpe"],
    "tpe, 5 random first": ["search=tpe", f"{TPE}=5"],
    "tpe, 20 random first": ["search=tpe", f"{TPE}=20"],
    "tpe, one by one": ["search=tpe", "search.sampler.multivariate=false", "search.sampler.group=false"],
    "ehvi": ["search=ehvi"],
    "ehvi, then tpe": ["search=ehvi_then_tpe"],
    "gp": ["search=gp"],
    "gp, 10 random first": ["search=gp", f"{TPE}=10"],
    "botorch": ["search=botorch"],
    "nsga2": ["search=nsga2"],
    "nsga3": ["search=nsga3"],
    "qmc": ["search=qmc"],
    "grid": ["search=grid"],
    "random": ["search=random"],
}
SHORTER = {"botorch": 40}  # trials of a study whose sampler is slow
DRAWN = (BASELINE, "ehvi", "ehvi, then tpe", "botorch", "gp, 10 random first", "nsga2", "random")
CLOSE, LEAST = 1.0, 0.3  # percent: near enough; the least that is drawn
Rows = Sequence[Mapping[str, Any]]
Truths = Mapping[str, ParetoFront]


def one_study(problem: Problem, words: Sequence[str], seed: int, n_trials: int) -> dict[str, Any]:
    """Hypervolume after every trial, the front at the end, the share of trials that ran, CPU seconds."""
    experiment = problem.experiment(f"seed={seed}", *words)
    objective = problem.objective(experiment)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for baseline in experiment.baselines:
        study.enqueue_trial(baseline)
    start = time.process_time()
    for done in range(n_trials):
        study.sampler = experiment.sampler(done)
        study.optimize(objective, n_trials=1)
    seconds = time.process_time() - start
    fronts = [found(study, n + 1) for n in range(n_trials)]
    ran = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return {
        "hypervolume": [round(front.hypervolume(reference_cost=BOUND), 6) for front in fronts],
        "front": fronts[-1].points.tolist(),
        "ran": len(ran) / n_trials,
        "seconds": round(seconds, 2),
    }


def joined(truth: ParetoFront, rows: Rows) -> ParetoFront:
    """The best of what is known of a problem and of all that was found: nothing more, where all of it is known."""
    points = [*truth.points.tolist(), *(point for row in rows for point in row["front"])]
    return ParetoFront.of(*np.array(points).T)


def regrets(rows: Rows, truth: ParetoFront) -> Float[np.ndarray, "studies trials"]:
    """In percent of the truth's hypervolume."""
    whole = truth.hypervolume(reference_cost=BOUND)
    return 100 * np.maximum(1 - np.array([row["hypervolume"] for row in rows]) / whole, 0.0)


def trials_until(regret: Float[np.ndarray, "studies trials"], most: float = CLOSE) -> float:
    """Median number of trials until the regret is that small; inf where the median study never gets there."""
    near = regret <= most
    return float(np.median(np.where(near.any(1), near.argmax(1) + 1, math.inf)))


def summarise(rows: Rows, truths: Truths, checkpoints: Sequence[int]) -> list[dict[str, Any]]:
    """One row a problem and arm: mean regret and its standard deviation over the seeds, and p against TPE."""
    table = []
    for problem, truth in truths.items():
        by_arm = {arm: {r["seed"]: r for r in rows if (r["problem"], r["arm"]) == (problem, arm)} for arm in ARMS}
        for arm, mine in by_arm.items():
            if not mine:
                continue
            regret = regrets(list(mine.values()), truth)
            within = trials_until(regret)
            line: dict[str, Any] = {"problem": problem, "arm": arm, "seeds": len(mine)}
            line["within 1 %"] = within if within < math.inf else None
            both = sorted(set(mine) & set(by_arm[BASELINE]))
            line |= {f"{figure}@{n}": None for n in checkpoints for figure in ("regret", "sd", "p")}
            for n in (n for n in checkpoints if n <= regret.shape[1]):
                values = regret[:, n - 1]
                line |= {f"regret@{n}": values.mean(), f"sd@{n}": values.std(ddof=1) if len(mine) > 1 else 0.0}
                gains = [mine[s]["hypervolume"][n - 1] - by_arm[BASELINE][s]["hypervolume"][n - 1] for s in both]
                line[f"p@{n}"] = float(wilcoxon(gains).pvalue) if np.any(gains) and len(gains) > 1 else None
            for key in ("ran", "seconds"):
                line[key] = float(np.mean([row[key] for row in mine.values()]))
            table.append(line)
    return table


def show(table: Sequence[Mapping[str, Any]], checkpoints: Sequence[int]) -> None:
    """Print the table."""
    heads = "".join(f"{f'%@{n}':>8}{'sd':>6}{'p':>7}" for n in checkpoints)
    print(f"{'problem':<17}{'search':<22}{'seeds':>5}{heads}{'within 1 %':>12}{'ran':>6}{'CPU s':>7}")
    for line in table:
        cells = ""
        for n in checkpoints:
            for figure, width, digits in (("regret", 8, 2), ("sd", 6, 2), ("p", 7, 3)):
                value = line[f"{figure}@{n}"]
                cells += f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"
        within = "-" if line["within 1 %"] is None else f"{line['within 1 %']:.0f}"
        last = f"{within:>12}{line['ran']:>6.2f}{line['seconds']:>7.1f}"
        print(f"{line['problem']:<17}{line['arm']:<22}{line['seeds']:>5}{cells}{last}")


def draw(rows: Rows, truths: Truths) -> Figure:
    """Regret after n trials, one panel a problem: median over the seeds, and the band of their middle half."""
    figure = Figure(figsize=(4.2 * len(truths), 3.6), layout="constrained")
    for axes, (problem, truth) in zip(figure.subplots(1, len(truths), squeeze=False)[0], truths.items(), strict=True):
        for arm, colour in zip(DRAWN, COLOURS, strict=True):
            mine = [row for row in rows if (row["problem"], row["arm"]) == (problem, arm)]
            if not mine:
                continue
            low, middle, high = np.percentile(regrets(mine, truth), (25, 50, 75), axis=0).clip(LEAST)
            trials = np.arange(1, len(middle) + 1)
            axes.plot(trials, middle, color=colour, label=arm, linewidth=2 if arm == BASELINE else 1.3)
            axes.fill_between(trials, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(CLOSE, color="grey", linestyle=":", linewidth=1)
        axes.set(yscale="log", ylim=(LEAST, 100), xlabel="trials", title=problem)
        axes.grid(alpha=0.2)
    figure.axes[0].set_ylabel("regret in hypervolume, %")
    max(figure.axes, key=lambda axes: len(axes.lines)).legend(fontsize=8, frameon=False)
    return figure


def data_marks() -> dict[str, str]:
    """Twelve letters a file that the problems are made of: studies on other data are run anew."""
    files = [file for file in sorted(DATA.parent.iterdir()) if file.suffix in (".csv", ".npz")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files}


def studies_of(file: Path | None, made_of: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of before holds, if its studies were made of the same data; what is new since changes none."""
    known = json.loads(file.read_text()) if file and file.is_file() else {"made_of": {"": None}}
    return known if known["made_of"].items() <= made_of.items() else {"truths": {}, "studies": []}


def main() -> None:
    """Run what is missing in the JSON file, print the table, write it, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--at", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--out", type=Path, help="JSON; studies that it holds already are not run again")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    made_of = {"trials": given.trials, **data_marks()}
    known = studies_of(given.out, made_of)
    rows, checkpoints = known["studies"], [n for n in given.at if n <= given.trials]
    truths = {name: ParetoFront.of(*np.array(points).T) for name, points in known["truths"].items()}
    truths = {
        name: truths.get(name) or PROBLEMS[name].truth() for name in PROBLEMS if name in {*truths, *given.problems}
    }
    ran = {(row["problem"], row["arm"], row["seed"]) for row in rows}
    wanted = [(p, arm, seed) for arm in given.arms for p in given.problems for seed in range(given.seeds)]
    for name, arm, seed in tqdm([one for one in wanted if one not in ran], unit="study"):
        row = one_study(PROBLEMS[name], ARMS[arm], seed, min(given.trials, SHORTER.get(arm, given.trials)))
        rows.append({"problem": name, "arm": arm, "seed": seed} | row)
        truths[name] = joined(truths[name], rows[-1:])
        if given.out:
            table = summarise(rows, truths, checkpoints)
            points = {problem: front.points.tolist() for problem, front in truths.items() if front.costs}
            content = {"made_of": made_of, "truths": points, "table": table, "studies": rows}
            given.out.write_text(json.dumps(content) + "\n")
    show(summarise(rows, truths, checkpoints), checkpoints)
    if given.picture:
        draw(rows, truths).savefig(given.picture, dpi=130)


if __name__ == "__main__":
    main()
