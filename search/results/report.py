"""After a study: its front and other arms at the same cost, on samples that no trial saw."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.statistics.contrast import Arms
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.reliability import reliability
from search.config.experiment import Experiment
from search.config.goal import OWN_SCORE
from search.config.schema import ReportSettings
from search.results.paired_answers import DIFFERENCE, TUNED_ARM, UNPRUNED, Arm, sample_rows, with_differences
from search.results.study_result import RECORDS, REPORT, REPORT_LATEX, read_report_key, read_table
from search.results.text_table import Cell, interval, is_true, latex_table, table
from search.results.trial_table import left_out, searched_groups
from search.study.model_evaluator import ModelEvaluator
from search.study.objective import PRUNER
from search.study.trials import STOPPED

TUNED = "tuned"


def tuned_pruners(study: optuna.Study, experiment: Experiment, front: ParetoFront) -> dict[int, Pruner]:
    """The pruner of every trial on the front, also written to tuned/trial-N.yaml for `Pruner.load`."""
    folder = experiment.out / TUNED
    folder.mkdir(exist_ok=True)
    ran = {trial.number: trial.user_attrs.get(PRUNER) for trial in study.get_trials(deepcopy=False)}
    numbers = [int(label) for label in front.labels]
    for old in folder.glob("trial-*.yaml"):
        old.unlink()
    pruners = {n: experiment.stored_pruner(ran.get(n), f"study {study.study_name}, trial {n}") for n in numbers}
    for number, pruner in pruners.items():
        pruner.save(folder / f"trial-{number}.yaml")
    return pruners


def chosen(front: ParetoFront, ratios: Sequence[float], points: int) -> list[int]:
    """Trial numbers along the front: the best within each ratio, then those farthest from the ones before.

    At most `points`, or one a ratio; far is meant with costs and scores scaled to [0, 1].
    """
    kept = list(dict.fromkeys(place for ratio in ratios if (place := front.index_at(ratio)) is not None))
    scaled = front.scaled
    while len(kept) < min(points, len(scaled)):
        away = np.linalg.norm(scaled[:, None] - scaled[kept or [0]], axis=2).min(1)
        kept.append(int(away.round(12).argmax()) if kept else 0)  # among equals the cheapest
    return [int(front.labels[place]) for place in sorted(kept)]


def evaluate_report(
    out: Path,
    report: ReportSettings,
    front: ParetoFront,
    tuned: Mapping[int, Pruner],
    arms: Mapping[str, Pruner],
    open_report_evaluator: Callable[[], ModelEvaluator],
    score: str = OWN_SCORE,
) -> pd.DataFrame:
    """One row an arm and bound: score with its 95 % interval, and paired with its reference's (`with_differences`).

    `score` is what trials were chosen by; if not the task's own, each point of the front says its `search_score` on the
    tune split as well. Every answer goes to report_records.parquet, the table also to report.tex. All is read from the
    folder where nothing has changed.
    """
    without = {} if score == OWN_SCORE else {"score": score}
    asked = {name: value for name, value in vars(report).items() if name != "episodes"}
    made_of = json.loads(json.dumps({"report": asked, "front": front.rows()} | without))
    if read_report_key(out) == made_of:
        return read_table(out / REPORT)
    evaluator = open_report_evaluator()
    unpruned, whole = Arm(UNPRUNED, None, 1.0), evaluator.run(None)
    pairs = [*_tuned_arms(report, front, tuned), *_other_arms(report, arms)]
    others = progress(pairs, doing=f"{out.name}: measuring on the report split", unit="arms")
    measured = [_measured(unpruned, whole, whole), *(_measure(arm, pruner, evaluator, whole) for arm, pruner in others)]
    samples = pd.concat([rows for _, rows in measured if rows is not None], ignore_index=True)
    frame = with_differences(pd.DataFrame([row for row, _ in measured]), samples, front)
    if without:
        own = dict(zip(map(int, front.labels), front.scores, strict=True))
        frame = frame.assign(search=score, search_score=frame["trial"].map(own).astype(float))
    samples.to_parquet(out / RECORDS, index=False)
    frame.to_csv(out / REPORT, index=False)
    (out / REPORT_LATEX).write_text(latex_table(*_cells(frame)) + "\n", encoding="utf-8")
    text = json.dumps({"made_of": made_of, "rows": json.loads(frame.to_json(orient="records"))}, indent=2)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    return frame


def trials_table(trials: pd.DataFrame, most: int = 100) -> str:
    """Trial, FLOPs ratio, score, on the front?, what it chose by name; by rising cost; refused trials only counted."""
    run = trials[trials["feasible"]].sort_values(["flops_ratio", "score"])
    shown = run if len(run) <= most else run[run["front"]]
    groups = searched_groups(trials)
    columns = [shown[name].tolist() for name in ("trial", "flops_ratio", "score", "front", *groups)]
    rows = list(zip(*columns, strict=True))
    speed = f", {60 / run['seconds'].mean():.0f} run a minute" if len(run) else ""
    stopped = int(trials[STOPPED].notna().sum()) if STOPPED in trials else 0
    early = f" of which {stopped} stopped early" if stopped else ""
    note = f"{len(trials)} trials, {int(run['front'].sum())} on the front, {left_out(trials)}{early}{speed}"
    return table(["trial", "FLOPs ratio", "score", "on the front?", *groups], rows) + f"\n{note}"


def report_table(report: pd.DataFrame) -> str:
    """The front beside the arms: 95 % intervals, and what each differs by from its reference on the same samples.

    Then, where the report has it, the share of answers that are the unpruned model's, and last, where trials were not
    chosen by the task's own score, what they were chosen by.
    """
    return table(*_cells(report))


def _cells(report: pd.DataFrame) -> tuple[list[str], list[list[Cell]]]:
    """Headers and rows of the report's table."""
    headers = ["arm", "bound", "FLOPs ratio", "score", "95 % interval", "minus", "difference", "95 % interval"]
    is_loyal = "loyalty" in report  # not in those of earlier versions
    searched = [f"{name}, tune" for name in report.get("search", [])[:1]]
    rows: list[list[Cell]] = []
    for row in report.to_dict("records"):
        known = not math.isnan(row["score"])
        shown = interval(row["low"], row["high"]) if known else str(row["note"])
        bound = None if row["arm"] == TUNED_ARM else float(row["bound"])
        loyal = [_loyalty(row)] if is_loyal else []
        own = [float(row["search_score"])] if searched else []
        rows.append(
            [
                name_of_row(row),
                bound,
                float(row["flops_ratio"]),
                float(row["score"]),
                shown,
                *_against(row),
                *loyal,
                *own,
            ]
        )
    return [*headers, *(["as unpruned"] if is_loyal else []), *searched], rows


def name_of_row(row: Mapping[Any, Any]) -> str:
    """'trial 84', or the arm's name."""
    return f"trial {int(row['trial'])}" if row["arm"] == TUNED_ARM else str(row["arm"])


def _loyalty(row: Mapping[Any, Any]) -> float | str:
    """The share of answers that are the unpruned model's, or that nothing tells the arm from it."""
    if row["arm"] == UNPRUNED:
        return ""
    return "no-op" if is_true(row.get("no_op")) else float(row["loyalty"])


def _against(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    """The reference, the difference and its interval; empty where there is none."""
    if math.isnan(row.get("difference", math.nan)):
        return "", "", ""
    value, low, high = (f"{round(row[key], 3) + 0.0:+.3f}" for key in DIFFERENCE)  # + 0.0: no -0.000
    return str(row["reference"]), value, f"[{low}, {high}]"


def _tuned_arms(report: ReportSettings, front: ParetoFront, tuned: Mapping[int, Pruner]) -> list[tuple[Arm, Pruner]]:
    numbers = chosen(front, report.ratios, report.points)
    return [(Arm(TUNED_ARM, n, front.costs[front.labels.index(str(n))]), tuned[n]) for n in numbers]


def _other_arms(report: ReportSettings, arms: Mapping[str, Pruner]) -> list[tuple[Arm, Pruner]]:
    return [(Arm(name, None, ratio), at_ratio(arm, ratio)) for name, arm in arms.items() for ratio in report.ratios]


def at_ratio(pruner: Pruner, ratio: float) -> Pruner:
    """The pruner at most at this FLOPs ratio, opened as it was."""
    return replace(pruner, budget=Budget(flops_ratio=ratio, opening=pruner.opening))


def _measure(
    arm: Arm, pruner: Pruner, evaluator: ModelEvaluator, whole: Records
) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """An arm's row and its samples, or why it has none: this split may hold a longer prompt than the trials saw."""
    try:
        records = evaluator.run(pruner)
    except BudgetError as error:
        return unreachable(arm, error), None
    return _measured(arm, records, whole)


def unreachable(arm: Arm, error: BudgetError) -> dict[str, Any]:
    """The row of an arm that was not measured."""
    floor = str(error).partition("alone cost ")[2].partition(";")[0]
    none = dict.fromkeys(("flops_ratio", "mean_tokens", "score", "low", "high"), math.nan)
    return {**asdict(arm), **none, "note": f"unreachable, floor {floor}"}


def arm_row(arm: Arm, records: Records) -> dict[str, Any]:
    """The row of an arm that was measured: cost, and score with its 95 % interval and that of each kind."""
    low, high = records.interval()
    return {
        **asdict(arm),
        "flops_ratio": records.flops_ratio,
        "mean_tokens": records.mean_tokens,
        "score": records.score,
        "low": low,
        "high": high,
        "left_out": len(records.left_out),
        "note": "",
        **{f"score/{kind}": score for kind, score in records.by_kind().items()},
    }


def _measured(arm: Arm, records: Records, whole: Records) -> tuple[dict[str, Any], pd.DataFrame]:
    """An arm's row, beside what the unpruned model answered, and its samples."""
    both = Arms({"own": records, "whole": whole})
    loyalty = both.loyalty("own", "whole")
    row = {
        **arm_row(arm, records),
        "loyalty": loyalty.value,
        "loyalty_low": loyalty.low,
        "loyalty_high": loyalty.high,
        "no_op": arm.arm != UNPRUNED and both.is_no_op("own", "whole"),
        **reliability(records),
    }
    return row, sample_rows(arm, records)
