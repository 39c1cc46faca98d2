"""Methods x budgets as one table: runs the arms and keeps what was answered."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.evaluation.timing import prefill_time_ratios
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.statistics.contrast import Arms, Estimate
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.reliability import reliability
from search.methods.arms import UNPRUNED, Arm
from search.study.model_evaluator import ModelEvaluator


@dataclass(frozen=True)
class AnswerCache:
    """Answered arms in a folder: what stands there for the same pruner, weights and samples is not run again."""

    folder: Path
    made_of: Mapping[str, Any]

    def records(self, evaluator: ModelEvaluator, pruner: Pruner | None) -> Records:
        """Read, or run and keep."""
        described = json.dumps([dict(self.made_of), plain(pruner)], sort_keys=True)
        file = self.folder / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.parquet"
        if file.is_file():
            frame = pd.read_parquet(file)
            return Records.from_frame(frame.drop(columns="seconds"), float(frame["seconds"].sum()))
        records = evaluator.run(pruner)
        self.folder.mkdir(parents=True, exist_ok=True)
        frame = records.to_frame().assign(seconds=records.seconds / len(records.rows))
        with atomic_write(file) as half:
            frame.to_parquet(half)
        return records


def run_arms(
    arms: Sequence[Arm], evaluator: ModelEvaluator, calibration: ModelEvaluator, cache: AnswerCache
) -> pd.DataFrame:
    """One row an arm, the unpruned model first; budgets that need it are calibrated on `calibration`."""
    ready = {arm.name: calibration.calibrated(arm.pruner) for arm in arms if arm.pruner is not None}
    records = {UNPRUNED: cache.records(evaluator, None)}
    for name, pruner in tqdm(ready.items(), desc="methods", unit="arm", disable=None):
        records[name] = cache.records(evaluator, pruner)
    times = dict(zip(ready, _time_ratios(evaluator, list(ready.values())), strict=True))
    answered = Arms(records)
    official = {name: evaluator.prepared.task.summary(found.rows) for name, found in records.items()}
    rows = [_row(UNPRUNED, UNPRUNED, math.nan, answered, 1.0, official[UNPRUNED])]
    for arm in arms:
        if arm.name in ready:
            rows.append(_row(arm.name, arm.method, arm.tokens, answered, float(times[arm.name]), official[arm.name]))
        else:
            rows.append({"method": arm.method, "tokens": arm.tokens, "note": arm.note})
    return pd.DataFrame(rows)


def _time_ratios(evaluator: ModelEvaluator, pruners: Sequence[Pruner]) -> Sequence[float]:
    """Prefill time of the largest batch, all arms taking turns."""
    batch = max(evaluator.prepared.batches, key=lambda batch: len(batch.places))
    return prefill_time_ratios(evaluator.vlm, batch, pruners).tolist() if pruners else []


def _row(
    name: str, method: str, tokens: float, arms: Arms, time_ratio: float, official: Mapping[str, float]
) -> dict[str, Any]:
    records = arms.records[name]
    row: dict[str, Any] = {
        "method": method,
        "tokens": tokens,
        "flops_ratio": records.flops_ratio,
        "paper_ratio": records.macs_ratio,
        "scoring_ratio": records.scoring_ratio,
        "entering": records.mean_tokens,
        "leaving": records.mean_tokens_leaving,
        "time_ratio": time_ratio,
        **_columns("score", arms.score(name)),
        **_columns("relative", arms.relative(name, UNPRUNED)),
        "note": "",
    }
    for kind in records.by_kind():
        row |= _columns(f"score/{kind}", arms.score(name, kind))
    row |= _columns("loyalty", arms.loyalty(name, UNPRUNED))
    row["no_op"] = name != UNPRUNED and arms.is_no_op(name, UNPRUNED)
    return row | reliability(records) | {f"official/{name}": value for name, value in official.items()}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}:low": estimate.low, f"{name}:high": estimate.high}
