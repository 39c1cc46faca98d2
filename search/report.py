"""After a study: its front and other arms at the same cost, on samples that no trial saw."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
import pandas as pd
from omegaconf import OmegaConf

from autoprune_lab.budget import Budget, BudgetError
from autoprune_lab.pareto import ParetoFront
from autoprune_lab.pruner import Pruner
from autoprune_lab.records import Records
from search.arm import build_pruner
from search.bench import ModelBench
from search.config import Settings
from search.objective import PRUNER
from search.results import REPORT, read_report_key
from search.table import interval, table

TUNED = "tuned"


def tuned_pruners(study: optuna.Study, settings: Settings, front: ParetoFront) -> dict[int, Pruner]:
    """The pruner of every trial on the front, also written to tuned/trial-N.yaml for `Pruner.load`."""
    folder = settings.out / TUNED
    folder.mkdir(exist_ok=True)
    ran = {trial.number: trial.user_attrs.get(PRUNER) for trial in study.get_trials(deepcopy=False)}
    numbers = [int(label) for label in front.labels]
    for old in folder.glob("trial-*.yaml"):
        old.unlink()
    pruners = {number: build_pruner(OmegaConf.create({"pruner": ran[number]})) for number in numbers}
    for number, pruner in pruners.items():
        pruner.save(folder / f"trial-{number}.yaml")
    return pruners


def chosen(front: ParetoFront, ratios: Sequence[float], points: int) -> list[int]:
    """Trial numbers along the front: the best within each ratio, then evenly spread, at most `points`."""
    numbers = [int(label) for label in front.labels]
    picked = [n for ratio in ratios if (n := _best_within(front, ratio)) is not None]
    spread = [numbers[round(i * (len(numbers) - 1) / max(points - 1, 1))] for i in range(points) if numbers]
    kept = list(dict.fromkeys([*picked, *spread]))[: max(points, len(set(picked)))]
    return sorted(kept, key=numbers.index)


def evaluate_report(
    settings: Settings,
    front: ParetoFront,
    tuned: Mapping[int, Pruner],
    arms: Mapping[str, Pruner],
    open_report_bench: Callable[[], ModelBench],
) -> pd.DataFrame:
    """One row an arm and bound with its 95 % interval; read from the folder where nothing has changed."""
    report, out = settings.typed.report, settings.out
    made_of = json.loads(json.dumps({"report": vars(report), "front": front.rows()}))
    if read_report_key(out) == made_of:
        return pd.read_csv(out / REPORT)
    bench = open_report_bench()
    rows = [_row("unpruned", 1.0, bench.run(None))]
    for number in chosen(front, report.ratios, report.points):
        cost = front.costs[front.labels.index(str(number))]
        rows.append(_row_of("front", cost, tuned[number], bench, number))
    for name, pruner in arms.items():
        rows += [
            _row_of(name, ratio, replace(pruner, budget=Budget(flops_ratio=ratio)), bench) for ratio in report.ratios
        ]
    frame = pd.DataFrame(rows)
    frame.to_csv(out / REPORT, index=False)
    text = json.dumps({"made_of": made_of, "rows": json.loads(frame.to_json(orient="records"))}, indent=2)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    return frame


def trials_table(trials: pd.DataFrame, most: int = 100) -> str:
    """Trial, FLOPs ratio, score, on the front?; by rising cost; refused trials only counted."""
    run = trials[trials["feasible"]].sort_values(["flops_ratio", "score"])
    shown = run if len(run) <= most else run[run["front"]]
    columns = [shown[name].tolist() for name in ("trial", "flops_ratio", "score", "front")]
    rows = list(zip(*columns, strict=True))
    refused = len(trials) - len(run)
    speed = f", {60 / run['seconds'].mean():.0f} run a minute" if len(run) else ""
    note = f"{len(trials)} trials, {int(run['front'].sum())} on the front, {refused} over the bound{speed}"
    return table(["trial", "FLOPs ratio", "score", "on the front?"], rows) + f"\n{note}"


def report_table(report: pd.DataFrame) -> str:
    """The front beside the arms, with 95 % intervals, arms at the same bound next to each other."""
    rows = []
    for row in report.to_dict("records"):
        name = f"trial {int(row['trial'])}" if row["arm"] == "front" else str(row["arm"])
        known = not math.isnan(row["score"])
        shown = interval(row["low"], row["high"]) if known else str(row["note"])
        bound = None if row["arm"] == "front" else float(row["bound"])
        rows.append((name, bound, float(row["flops_ratio"]), float(row["score"]), shown))
    return table(["arm", "bound", "FLOPs ratio", "score", "95 % interval"], rows)


def _best_within(front: ParetoFront, ratio: float) -> int | None:
    affordable = [int(n) for n, cost in zip(front.labels, front.costs, strict=True) if cost <= ratio]
    return affordable[-1] if affordable else None


def _row_of(name: str, bound: float, pruner: Pruner, bench: ModelBench, trial: int | None = None) -> dict[str, Any]:
    """A pruner's row, or why it has no score: this split may hold a longer prompt than the trials saw."""
    try:
        return _row(name, bound, bench.run(pruner), trial)
    except BudgetError as error:
        floor = str(error).partition("alone cost ")[2].partition(";")[0]
        none = dict.fromkeys(("flops_ratio", "mean_tokens", "score", "low", "high"), math.nan)
        return {"arm": name, "trial": trial, "bound": bound, **none, "note": f"unreachable, floor {floor}"}


def _row(name: str, bound: float, records: Records, trial: int | None = None) -> dict[str, Any]:
    low, high = records.interval()
    return {
        "arm": name,
        "trial": trial,
        "bound": bound,
        "flops_ratio": records.flops_ratio,
        "mean_tokens": records.mean_tokens,
        "score": records.score,
        "low": low,
        "high": high,
        "note": "",
        **{f"score/{kind}": score for kind, score in records.by_kind().items()},
    }
