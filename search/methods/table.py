"""Methods x budgets as one table: runs the arms and keeps what was answered."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.evaluation.downsampling import against
from autoprune_lab.evaluation.prompts import batch_of
from autoprune_lab.evaluation.timing import prefill_time_ratios, selection_shares
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.statistics.contrast import Arms
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.reliability import reliability
from autoprune_lab.tasks.base import Task
from autoprune_lab.tasks.downsampled import DownsampledTask
from search.methods.arms import UNPRUNED, Arm
from search.methods.page import OFFICIAL
from search.study.model_evaluator import ModelEvaluator


@dataclass(frozen=True)
class AnswerCache:
    """Answered arms in a folder: what stands there for the same pruner, weights and samples is not run again."""

    folder: Path
    made_of: Mapping[str, Any]

    def records(self, evaluator: ModelEvaluator, pruner: Pruner | None) -> Records:
        """Read, or run and keep."""
        return self.kept([plain(pruner)], lambda: evaluator.run(pruner))

    def downsampled(self, shown: DownsampledTask, open_task: Callable[[Task], ModelEvaluator]) -> Records:
        """The unpruned model's answers about smaller pictures; the task is opened only where it must run."""
        return self.kept([dict(shown.scales), shown.enlarged], lambda: open_task(shown).run(None))

    def file(self, arm: Sequence[Any]) -> Path:
        """Where the answers of an arm, in plain values, stand once they are kept."""
        described = json.dumps([dict(self.made_of), *arm], sort_keys=True)
        return self.folder / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.parquet"

    def kept(self, arm: Sequence[Any], run: Callable[[], Records]) -> Records:
        """The answers of an arm that plain values describe: read, or run and kept."""
        file = self.file(arm)
        if file.is_file():
            frame = pd.read_parquet(file)
            return Records.from_frame(frame.drop(columns="seconds"), float(frame["seconds"].sum()))
        records = run()
        self.folder.mkdir(parents=True, exist_ok=True)
        frame = records.to_frame().assign(seconds=records.seconds / len(records.rows))
        with atomic_write(file) as half:
            frame.to_parquet(half)
        return records


Groups = Mapping[str, Bool[np.ndarray, "samples"]]
"""Which samples are in which of VTC-Bench's groups."""


def run_arms(
    arms: Sequence[Arm],
    evaluator: ModelEvaluator,
    calibration: ModelEvaluator,
    cache: AnswerCache,
    open_task: Callable[[Task], ModelEvaluator],
) -> pd.DataFrame:
    """One row an arm, the unpruned model first; budgets that need it are calibrated on `calibration`.

    `open_task` makes a task of smaller pictures ready for the same model.
    """
    ready = {arm.name: calibration.calibrated(arm.pruner) for arm in arms if arm.pruner is not None}
    records = {UNPRUNED: cache.records(evaluator, None)}
    for name, pruner in progress(ready.items(), doing="measuring methods", unit="arms", total=len(ready)):
        records[name] = cache.records(evaluator, pruner)
    smaller = {arm.name: arm.shown for arm in arms if arm.shown is not None}
    for name, shown in smaller.items():
        records[name] = against(cache.downsampled(shown, open_task), records[UNPRUNED])
    shown_arms = {arm.name: smaller[arm.name] for arm in arms if arm.name in smaller and not arm.note}
    times = {UNPRUNED: (1.0, 0.0)} | _times(evaluator, ready, shown_arms)
    answered = Arms(records)
    groups = {
        arm.tokens: dict(zip("ab", answered.groups(UNPRUNED, arm.name), strict=True))
        for arm in arms
        if arm.name in smaller
    }
    official = {name: evaluator.prepared.task.summary(records[name].rows) for name in times}
    rows = [_row(UNPRUNED, UNPRUNED, math.nan, answered, times[UNPRUNED], {}, official[UNPRUNED])]
    for arm in arms:
        if arm.name in times:
            found = groups.get(arm.tokens, {})
            told = times[arm.name], found, official[arm.name]
            rows.append(_row(arm.name, arm.method, arm.tokens, answered, *told))
        else:
            rows.append({"method": arm.method, "tokens": arm.tokens, "note": arm.note})
    return pd.DataFrame(rows)


def _times(
    evaluator: ModelEvaluator, pruners: Mapping[str, Pruner], smaller: Mapping[str, DownsampledTask]
) -> dict[str, tuple[float, float]]:
    """Each arm's prefill time over the unpruned one's, and the part that is its own: of the largest batch, in turns."""
    if not pruners and not smaller:
        return {}
    batch = max(evaluator.prepared.batches, key=lambda batch: len(batch.places))
    ids = [evaluator.prepared.samples[place].id for place in batch.places]
    others = [batch_of(evaluator.vlm, shown.only(ids).samples()) for shown in smaller.values()]
    arms = list(pruners.values())
    ratios = prefill_time_ratios(evaluator.vlm, batch, arms, others=others).tolist()
    shares = selection_shares(evaluator.vlm, batch, arms).tolist() + [0.0] * len(others)
    return dict(zip((*pruners, *smaller), zip(ratios, shares, strict=True), strict=True))


def _row(
    name: str,
    method: str,
    tokens: float,
    arms: Arms,
    times: tuple[float, float],
    groups: Groups,
    official: Mapping[str, float],
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
        "time_ratio": times[0],
        "selection_share": times[1],
        **arms.score(name).columns("score"),
        **arms.relative(name, UNPRUNED).columns("relative"),
        "note": "",
    }
    for kind in records.by_kind():
        row |= arms.score(name, kind).columns(f"score/{kind}")
    row |= arms.loyalty(name, UNPRUNED).columns("loyalty")
    for group, members in groups.items():
        row |= {f"n_{group}": int(members.sum())} | arms.score_within(name, members).columns(f"score_{group}")
    row["no_op"] = name != UNPRUNED and arms.is_no_op(name, UNPRUNED)
    return row | reliability(records) | {f"{OFFICIAL}{name}": value for name, value in official.items()}
