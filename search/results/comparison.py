"""Fronts set against each other: hypervolumes, dominated shares, scores at equal cost, paired tests, what mattered."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from search.results.paired_answers import TUNED_ARM, Arm, Scores, apart, scores_of
from search.results.seeds import Contender
from search.results.study_result import StudyResult


def summary(contenders: Sequence[Contender], ratios: Sequence[float], report: bool = False) -> pd.DataFrame:
    """One row a contender: seeds, trials, points on the front, hypervolume, score within each FLOPs ratio.

    The hypervolume is the area above score 0 and left of FLOPs ratio 1. The score within a ratio is the best on the
    tune split; on the report split it is what the trial scores there that was best on the tune split. Of several
    seeds: trials and points of all, the median hypervolume between the lowest and the highest, the median score; seeds
    that have nothing so cheap do not count.
    """
    return pd.DataFrame([_summary(contender, ratios, report) for contender in contenders])


def dominated_shares(contenders: Sequence[Contender], report: bool = False) -> pd.DataFrame:
    """A table to be read by rows: the share of this contender's points that the column's front dominates.

    Of several seeds: the mean over all pairs of them.
    """
    names = [contender.name for contender in contenders]
    shares = [
        [
            math.nan
            if one is other
            else _mean([a.dominated_by(b) for a in one.fronts(report) for b in other.fronts(report)])
            for other in contenders
        ]
        for one in contenders
    ]
    return pd.DataFrame(shares, index=pd.Index(names, name="dominated"), columns=names)


def differences(contenders: Sequence[Contender], ratios: Sequence[float]) -> pd.DataFrame:
    """One row a pair and FLOPs ratio: what `left` scores above `right` on the same report samples.

    A study is represented by the trial that was best within the ratio on the tune split, among those measured again.
    The interval (95 %) and the p-value come from a paired bootstrap over samples, seeds averaged; they say nothing
    about other seeds. Rows where one side has nothing so cheap are NaN.
    """
    rows = [_difference(*pair, ratio) for pair in combinations(contenders, 2) for ratio in ratios]
    columns = ["left", "right", "ratio", "left_trials", "right_trials", "difference", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns)


def seed_tests(contenders: Sequence[Contender], report: bool = False) -> pd.DataFrame:
    """One row a pair that shares two seeds or more: a paired Wilcoxon signed-rank test on their hypervolumes.

    `least_p` is the smallest p-value that so many seeds can give: with 5 of them, 0.0625.
    """
    rows = [_seed_test(*pair, report) for pair in combinations(contenders, 2)]
    columns = ["left", "right", "seeds", "median_difference", "p", "least_p"]
    return pd.DataFrame([row for row in rows if row is not None], columns=columns)


def importances(contenders: Sequence[Contender], target: str = "score") -> pd.DataFrame:
    """One row a parameter, one column a contender: `target` of `search.results.importance`, mean over seeds."""
    columns = {}
    for contender in contenders:
        frames = [study.importance for study in contender.studies]
        known = [frame.set_index("parameter")[target] for frame in frames if not frame.empty]
        if known:
            columns[contender.name] = pd.concat(known, axis=1).mean(axis=1)
    frame = pd.DataFrame(columns).rename_axis("parameter")
    return frame.loc[frame.max(axis=1).sort_values(ascending=False).index] if columns else frame


def _summary(contender: Contender, ratios: Sequence[float], report: bool) -> dict[str, Any]:
    fronts = contender.fronts(report)
    areas = [front.hypervolume() for front in fronts]
    row = {
        "study": contender.name,
        "seeds": len(fronts),
        **_counts(contender, report),
        "points": sum(len(front.costs) for front in fronts),
        "hypervolume": float(np.median(areas)),
        "lowest": min(areas),
        "highest": max(areas),
    }
    scores = {ratio: [_score_at(study, ratio, report) for study in contender.studies] for ratio in ratios}
    return row | {f"score@{ratio:g}": _median(found) for ratio, found in scores.items()}


def _counts(contender: Contender, report: bool) -> dict[str, int]:
    """How many points a split's fronts were chosen from, and what else there was."""
    if report:
        return {"measured": sum(len(study.report_points) for study in contender.studies)}
    left = [study.front.left_out for study in contender.studies]
    return {
        "trials": sum(len(study.trials) for study in contender.studies),
        "over_bound": sum(out.infeasible for out in left),
        "no_result": sum(out.no_result for out in left),
    }


def _score_at(study: StudyResult, ratio: float, report: bool) -> float:
    """The best score within the ratio; on the report split, that of the trial which was best on the tune split."""
    if not report:
        return study.front.score_at(ratio)
    row = _row_at(study, ratio)
    return math.nan if row is None else float(row["score"])


def _difference(left: Contender, right: Contender, ratio: float) -> tuple[Any, ...]:
    arms = [[_arm_at(study, ratio) for study in side.studies] for side in (left, right)]
    named = [" ".join("-" if arm is None else str(arm.trial) for arm in side) for side in arms]
    if any(arm is None for side in arms for arm in side):
        return (left.name, right.name, ratio, *named, *(math.nan,) * 4)
    scores: list[list[Scores]] = [
        [scores_of(study.samples, arm) for study, arm in zip(side.studies, found, strict=True) if arm is not None]
        for side, found in zip((left, right), arms, strict=True)
    ]
    found = apart(left.studies[0].samples, *scores)
    return (left.name, right.name, ratio, *named, found.value, found.low, found.high, found.p)


def _arm_at(study: StudyResult, ratio: float) -> Arm | None:
    """The key of `_row_at`, where its answers were kept."""
    row = _row_at(study, ratio)
    return None if row is None or study.samples.empty else Arm(TUNED_ARM, int(row["trial"]), float(row["bound"]))


def _row_at(study: StudyResult, ratio: float) -> dict[Any, Any] | None:
    """The measured point of the front that is best within the ratio; its bound is its cost on the tune split."""
    if study.report.empty:
        return None
    rows = study.report[(study.report["arm"] == TUNED_ARM) & (study.report["bound"] <= ratio)].dropna(subset=["score"])
    return None if rows.empty else rows.sort_values("bound").to_dict("records")[-1]


def _seed_test(left: Contender, right: Contender, report: bool) -> tuple[Any, ...] | None:
    from scipy.stats import wilcoxon  # a second of imports, which no study needs

    areas = [
        {seed: front.hypervolume() for seed, front in zip(side.seeds, side.fronts(report), strict=True)}
        for side in (left, right)
    ]
    shared = sorted(seed for seed in set(areas[0]) & set(areas[1]) if seed is not None)
    if len(shared) < 2:
        return None
    gaps = np.array([areas[0][seed] - areas[1][seed] for seed in shared])
    p = float(wilcoxon(gaps).pvalue) if gaps.any() else 1.0
    return left.name, right.name, len(shared), float(np.median(gaps)), p, 2.0 ** (1 - len(shared))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan
