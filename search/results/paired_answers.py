"""Answers of the report split, sample by sample, and what arms differ by on the same samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.statistics.records import Records
from autoprune_lab.statistics.resampling import Difference, difference
from search.config.errors import ConfigError

Scores: TypeAlias = "pd.Series[float]"

DIFFERENCE = ("difference", "difference_low", "difference_high")
UNPRUNED, TUNED_ARM = "unpruned", "front"


@dataclass(frozen=True)
class Arm:
    """What was measured: an arm's name, its trial if it is a point of the front, and its bound."""

    arm: str
    trial: int | None
    bound: float


def sample_rows(arm: Arm, records: Records) -> pd.DataFrame:
    """One row a sample: arm, trial, bound, id, kind, score, complexity in bits, FLOPs pruned and unpruned."""
    rows = [
        {
            **asdict(arm),
            "id": row.id,
            "kind": row.kind,
            "score": row.score,
            "complexity": math.nan if row.complexity is None else row.complexity,
            "flops": row.decoder_flops,
            "unpruned_flops": row.unpruned_flops,
        }
        for row in records.rows
    ]
    return pd.DataFrame(rows).astype({"trial": "Int64", "complexity": float})


def scores_of(samples: pd.DataFrame, arm: Arm) -> Scores:
    """An arm's score of each sample, by the sample's id; empty where the arm was not measured."""
    same_trial = samples["trial"].isna() if arm.trial is None else samples["trial"].eq(arm.trial).fillna(False)
    same_bound = np.isclose(samples["bound"].to_numpy(float), arm.bound, rtol=0, atol=1e-9)  # one went through a CSV
    rows = samples[(samples["arm"] == arm.arm) & same_trial.astype(bool) & same_bound]
    scores: Scores = rows.set_index("id")["score"].astype(float)
    return scores


def references(report: pd.DataFrame, front: ParetoFront) -> list[Arm | None]:
    """What each row of a report is set against, in order.

    A point of the front: the unpruned model. Another arm: the tuned trial that was best within the same bound on the
    tune split. None where that was not measured.
    """
    measured = [_arm(row) for row in report.to_dict("records") if not math.isnan(row["score"])]
    unpruned = [arm for arm in measured if arm.arm == UNPRUNED]
    tuned = {arm.trial: arm for arm in measured if arm.arm == TUNED_ARM}
    found: list[Arm | None] = []
    for row in report.to_dict("records"):
        best = front.index_at(float(row["bound"]))
        trial = None if best is None else int(front.labels[best])
        others = unpruned if row["arm"] == TUNED_ARM else [tuned[trial]] if trial in tuned else []
        found.append(others[0] if others else None)
    return found


def with_differences(report: pd.DataFrame, samples: pd.DataFrame, front: ParetoFront) -> pd.DataFrame:
    """The report with four more columns: reference, and score minus the reference's with its 95 % interval."""
    cells: list[Mapping[str, Any]] = []
    for row, other in zip(report.to_dict("records"), references(report, front), strict=True):
        if other is None or math.isnan(row["score"]):
            cells.append({"reference": "", **_columns(None)})
            continue
        found = apart(samples, [scores_of(samples, _arm(row))], [scores_of(samples, other)])
        cells.append({"reference": name_of(other), **_columns(found)})
    return pd.concat([report.reset_index(drop=True), pd.DataFrame(cells)], axis=1)


def apart(samples: pd.DataFrame, left: Sequence[Scores], right: Sequence[Scores]) -> Difference:
    """Left minus right, paired by sample; `samples` says each one's kind.

    ConfigError where they did not answer the same samples, or one of them twice.
    """
    ids = left[0].index
    for scores in (*left, *right):
        if scores.index.has_duplicates:
            twice = scores.index[scores.index.duplicated()][0]
            raise ConfigError(f"sample {twice!r} was answered twice by one arm: give the samples ids of their own")
    if any(set(scores.index) != set(ids) for scores in (*left, *right)):
        raise ConfigError("not all answered the same report samples: give the studies one report.task")
    kinds = samples.drop_duplicates("id").set_index("id")["kind"].loc[ids].tolist()
    first, second = (np.array([scores.loc[ids].to_numpy(float) for scores in side]) for side in (left, right))
    return difference(first, second, kinds)


def name_of(arm: Arm) -> str:
    """'trial 84', or the arm's name."""
    return f"trial {arm.trial}" if arm.arm == TUNED_ARM else arm.arm


def _arm(row: Mapping[Any, Any]) -> Arm:
    """A row of a report as a key."""
    trial = row["trial"]
    return Arm(str(row["arm"]), None if trial is None or pd.isna(trial) else int(trial), float(row["bound"]))


def _columns(found: Difference | None) -> dict[str, float]:
    return dict(zip(DIFFERENCE, (found.value, found.low, found.high) if found else (math.nan,) * 3, strict=True))
