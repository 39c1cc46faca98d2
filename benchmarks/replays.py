"""Published searches on embedded models: what they find, and what the same trials find otherwise.

    nice python -m benchmarks.replays --out benchmarks/results/replays.json
    python -m benchmarks.replays --replays ai4ai --seeds 1 --trials 4 task.per_kind=1 report.task.per_kind=1   # seconds

Each replay (conf/experiment/replay_NAME.yaml) is searched as published, one number up; where that number holds a
penalty instead of a bound, again with the FLOPs of what it chose as a bound, and the score alone up; and as a front of
score against FLOPs ratio. All with the same sampler, seeds and number of trials, on the same samples. Of every search
stands what it would choose: the best of its number, and, of the others, the best that costs no more than that. The
report split says what that is worth: score with labels, difference on the same samples, 95 % intervals of the paired
bootstrap, seeds averaged. `area`: hypervolume left of the replay's dearest cost and above score 0, of all trials.

Differs from the papers where the experiment's file says so. Searches that the file --out holds are not run again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.resampling import difference, interval, resampled
from search.config.experiment import Experiment
from search.config.goal import COST
from search.results.text_table import interval as text_interval
from search.results.text_table import table
from search.study.model_evaluator import ModelEvaluator, open_evaluator
from search.study.objective import PRUNER, Objective

PUBLISHED, BOUNDED, FRONT = "as published", "bounded", "front"
SCORE = "score"  # user attribute: without the penalty


@dataclass(frozen=True)
class Replay:
    """What makes the experiment the published search: words, and a penalty on one of its settings."""

    words: tuple[str, ...]
    penalty: tuple[str, float] | None = None

    def number(self, trial: optuna.Trial | optuna.trial.FrozenTrial, score: float) -> float:
        """What the published search maximises."""
        return score if self.penalty is None else score - self.penalty[1] * float(trial.params[self.penalty[0]])


REPLAYS = {
    "vflowopt": Replay(("search.mode=best", "pruner.budget.mean_tokens=36")),
    "prune2drive": Replay(("search.mode=best",), ("pruner.policy.keep", 6 * 0.03)),  # six views' ratios, 0.03 each
    "ai4ai": Replay(("search.mode=best", "pruner.budget.mean_tokens=8")),
    "vispco": Replay(("search.mode=best",)),
}
"""By the end of the experiment's name."""


@dataclass(frozen=True)
class Found:
    """A search: what each of its trials that ran cost, scored and was."""

    costs: list[float]
    scores: list[float]
    numbers: list[float]
    pruners: list[Any]

    def best(self, at_most: float | None = None) -> int:
        """The trial with the highest published number; with a bound, that with the highest score within it.

        Where none is within the bound, the cheapest.
        """
        if at_most is None:
            return int(np.argmax(self.numbers))
        within = np.array(self.costs) <= at_most + 1e-9
        if not within.any():
            return int(np.argmin(self.costs))
        return int(np.argmax(np.where(within, self.scores, -np.inf)))


def composed(name: str, words: Sequence[str]) -> Experiment:
    """The replay's experiment; nothing is tracked or stopped early, so that all trials see the same samples."""
    return Experiment.compose([f"experiment=replay_{name}", "tracking=none", "search.pruner=null", *words])


def searched(experiment: Experiment, replay: Replay, evaluator: ModelEvaluator, n_trials: int) -> Found:
    """Run the experiment's own search, or in mode best one for the replay's number."""
    objective = Objective.of(experiment, evaluator)

    def values(trial: optuna.Trial) -> tuple[float, ...]:
        *cost, score = objective(trial)
        trial.set_user_attr(SCORE, score)
        return (*cost, score) if cost else (replay.number(trial, score),)

    study = optuna.create_study(directions=experiment.goal.directions, pruner=experiment.stopper)
    for done in range(n_trials):
        study.sampler = experiment.sampler(done)
        study.optimize(values, n_trials=1)
    ran = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    notes = [trial.user_attrs for trial in ran]
    return Found(
        [float(note[COST]) for note in notes],
        [float(note[SCORE]) for note in notes],
        [float(trial.values[-1]) for trial in ran],
        [note[PRUNER] for note in notes],
    )


def replayed(name: str, seed: int, words: Sequence[str], n_trials: int | None) -> list[dict[str, Any]]:
    """One line a search: what it chose, its trials' area, and the report split's answers to what it chose."""
    replay, told = REPLAYS[name], [f"seed={seed}", *words]
    published = composed(name, [*told, *replay.words])
    n = n_trials or published.typed.search.n_trials
    opened = [
        open_evaluator(published.model, task, published.typed) for task in (published.task, published.report_task)
    ]
    tune, report = replace(opened[0], tells=True), opened[1]
    search = searched(published, replay, tune, n)
    arms = {PUBLISHED: (search, search.best())}
    bound = search.costs[search.best()]
    if replay.penalty is not None:
        bounded = composed(name, [*told, "search.mode=best", f"budget.flops_ratio={bound}"])
        found = searched(bounded, Replay(()), tune, n)
        arms[BOUNDED] = found, found.best(bound)
    found = searched(composed(name, told), Replay(()), tune, n)
    arms[FRONT] = found, found.best(bound)
    dearest = max(cost for one, _ in arms.values() for cost in one.costs)
    lines = []
    for arm, (one, best) in arms.items():
        records = report.run(published.stored_pruner(one.pruners[best], f"replay {name}, {arm}"))
        area = ParetoFront.of(one.costs, one.scores).hypervolume(reference_cost=dearest)
        lines.append(
            {
                "replay": name,
                "seed": seed,
                "arm": arm,
                "trials": n,
                "ran": len(one.costs),
                "flops_ratio": one.costs[best],
                "score": one.scores[best],
                "area": area,
                "report_flops_ratio": records.flops_ratio,
                "report": _answers(records),
            }
        )
    return lines


def _answers(records: Records) -> dict[str, list[float]]:
    """Every sample's score, by kind."""
    return {kind: [round(float(score), 4) for score in scores] for kind, scores in records.scores.items()}


def summarise(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a replay and search, seeds averaged; differences are to the published search."""
    rows = []
    for name in dict.fromkeys(line["replay"] for line in lines):
        for arm in (PUBLISHED, BOUNDED, FRONT):
            mine = [line for line in lines if (line["replay"], line["arm"]) == (name, arm)]
            theirs = [line for line in lines if (line["replay"], line["arm"]) == (name, PUBLISHED)]
            if not mine:
                continue
            scores, kinds = _scores(mine)
            row = {"replay": name, "search": arm, "seeds": len(mine), "trials": mine[0]["trials"]}
            row |= {key: float(np.mean([line[key] for line in mine])) for key in ("flops_ratio", "score", "area")}
            low, high = interval(resampled(scores, kinds).mean(axis=1))
            row |= {"report": float(np.mean([_mean(line) for line in mine])), "low": low, "high": high}
            if arm != PUBLISHED:
                gap = difference(scores, _scores(theirs)[0], kinds)
                row |= {"difference": gap.value, "difference_low": gap.low, "difference_high": gap.high}
            rows.append(row)
    return rows


def _scores(lines: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, list[str]]:
    """A row of scores a line, and the samples' kinds."""
    kinds = [kind for kind, scores in lines[0]["report"].items() for _ in scores]
    return np.array([[s for scores in line["report"].values() for s in scores] for line in lines]), kinds


def _mean(line: Mapping[str, Any]) -> float:
    return float(np.mean([np.mean(scores) for scores in line["report"].values()]))


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    headers = ["replay", "search", "seeds", "trials", "FLOPs ratio", "its score, tune", "area", "report, 95 %", "minus"]
    lines = []
    for row in rows:
        costs = [row[key] for key in ("replay", "search", "seeds", "trials", "flops_ratio", "score", "area")]
        minus = ""
        if "difference" in row:
            minus = f"{row['difference']:+.3f} {text_interval(row['difference_low'], row['difference_high'])}"
        lines.append([*costs, f"{row['report']:.3f} {text_interval(row['low'], row['high'])}", minus])
    return table(headers, lines)


def main() -> None:
    """Run what is missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--replays", nargs="+", default=list(REPLAYS), choices=list(REPLAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, help="default: as published")
    parser.add_argument("--out", type=Path)
    given = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made_of = {"words": given.words, "trials": given.trials}
    known = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}
    lines = known["searches"] if known.get("made_of") == made_of else []
    there = {(line["replay"], line["seed"]) for line in lines}
    wanted = [(name, seed) for seed in range(given.seeds) for name in given.replays if (name, seed) not in there]
    for name, seed in tqdm(wanted, unit="replay"):
        lines += replayed(name, seed, given.words, given.trials)
        if given.out:
            content = {"made_of": made_of, "table": summarise(lines), "searches": lines}
            given.out.write_text(json.dumps(content) + "\n")
    print(text(summarise(lines)))


if __name__ == "__main__":
    main()
