"""Pareto fronts of cost (lower is better) against score (higher is better): dominance, measures, files."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import moocore
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from autoprune_lab.html_table import html_table

BETTER_IS_MORE = (False, True)  # cost, score


def pareto_mask(costs: ArrayLike, scores: ArrayLike) -> Bool[np.ndarray, "points"]:
    """True where no other point costs no more and scores no less, one of them strictly.

    Equal points do not dominate each other. A point that is not finite is never on the front.
    """
    cost, score = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    if cost.ndim != 1 or cost.shape != score.shape:
        raise ValueError(f"costs {cost.shape} and scores {score.shape} must be two lists of one length")
    mask = np.isfinite(cost) & np.isfinite(score)  # moocore takes NaN for a number
    if mask.any():
        points = np.column_stack([cost, score])[mask]
        mask[mask] = moocore.is_nondominated(points, maximise=BETTER_IS_MORE, keep_weakly=True)
    return np.asarray(mask)


@dataclass(frozen=True)
class NotOnFront:
    """How many points did not make it onto a front: beaten, over a bound, or without a finite cost and score."""

    dominated: int = 0
    infeasible: int = 0
    no_result: int = 0

    def __str__(self) -> str:
        return f"{self.dominated} dominated, {self.infeasible} over a bound, {self.no_result} without a result"


@dataclass(frozen=True)
class ParetoFront:
    """The non-dominated points, by strictly rising cost and score, each with a label. It may be empty.

    `left_out` counts the points it was chosen from and does not hold; it is no part of equality.
    """

    costs: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    left_out: NotOnFront = field(default=NotOnFront(), compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError unless the points are a front; `ParetoFront.of` makes one of any points."""
        rising = all(low < high for values in (self.costs, self.scores) for low, high in pairwise(values))
        if not (rising and len(self.costs) == len(self.scores) == len(self.labels)):
            raise ValueError("costs and scores must rise strictly, one label each: use ParetoFront.of")

    @classmethod
    def of(
        cls,
        costs: ArrayLike,
        scores: ArrayLike,
        labels: Sequence[object] | None = None,
        feasible: ArrayLike | None = None,
    ) -> "ParetoFront":
        """The front of any points. Of equal points the first stays; labels default to positions.

        Only points that are `feasible` (default: all) and finite can be on it; the rest is counted in `left_out`.
        """
        cost, score = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
        names = range(len(cost)) if labels is None else labels
        within = np.ones(len(cost), dtype=bool) if feasible is None else np.asarray(feasible, dtype=bool)
        for what, n in (("labels", len(names)), ("truth values of feasible", len(within))):
            if n != len(cost):
                raise ValueError(f"{n} {what} for {len(cost)} points: give one each")
        kept = np.flatnonzero(pareto_mask(np.where(within, cost, np.nan), score))
        order = kept[np.unique(cost[kept], return_index=True)[1]]  # on a front, equal costs are equal points
        usable = int((within & np.isfinite(cost) & np.isfinite(score)).sum())
        left = NotOnFront(usable - len(order), int((~within).sum()), int(within.sum()) - usable)
        return cls(tuple(cost[order].tolist()), tuple(score[order].tolist()), tuple(str(names[i]) for i in order), left)

    @property
    def points(self) -> Float[np.ndarray, "points 2"]:
        """Cost and score of each point."""
        return np.column_stack([self.costs, self.scores]).reshape(-1, 2).astype(float)

    @property
    def scaled(self) -> Float[np.ndarray, "points 2"]:
        """The same with costs and scores scaled to [0, 1] along the front."""
        span = self.points[-1:] - self.points[:1]
        return np.asarray((self.points - self.points[:1]) / np.where(span > 0, span, 1.0))

    def hypervolume(self, reference_cost: float = 1.0, reference_score: float = 0.0) -> float:
        """Area between the front and a reference point that is dearer and worse; higher is better.

        Points beyond the reference add nothing. Source: Zitzler and Thiele (1998), the S metric.
        """
        reference = np.array([reference_cost, reference_score], dtype=float)
        return float(moocore.hypervolume(self.points, ref=reference, maximise=BETTER_IS_MORE))

    def dominated_by(self, other: "ParetoFront") -> float:
        """Share of this front's points that a point of `other` dominates; NaN of an empty front.

        Source: Zitzler and Thiele (1998), the C metric. Differs: equal points do not count.
        """
        if not self.costs:
            return math.nan
        both = np.vstack([self.points, other.points])
        return float(1 - pareto_mask(*both.T)[: len(self.costs)].mean())

    def index_at(self, cost: float) -> int | None:
        """Position of the best point that costs no more than `cost`; None where nothing is that cheap."""
        affordable = int(np.searchsorted(self.costs, cost, side="right"))
        return affordable - 1 if affordable else None

    def score_at(self, cost: float) -> float:
        """The best score that costs no more than `cost`; NaN where nothing is that cheap."""
        index = self.index_at(cost)
        return math.nan if index is None else self.scores[index]

    def knee(self) -> int:
        """Position of the point farthest above the line between the front's ends, costs and scores scaled to [0, 1].

        Of equally far points the cheapest; a front of one or two points gives its first. ValueError if it is empty.
        Source: I. Das, Structural Optimization 18 (1999), p. 107.
        """
        if not self.costs:
            raise ValueError("an empty front has no knee")
        cost, score = self.scaled.T
        return int(np.argmax((score - cost).round(12)))  # on one line, rounding must not choose

    def _repr_html_(self) -> str:
        """Its points, in a notebook."""
        caption = f"Pareto front: {len(self.costs)} points, hypervolume {self.hypervolume():.4f}; {self.left_out}"
        rows = list(zip(self.labels, self.costs, self.scores, strict=True))
        return html_table(caption, ["label", "cost", "score"], rows)

    def rows(self) -> list[dict[str, float | str]]:
        """One {"cost", "score", "label"} a point."""
        points = zip(self.costs, self.scores, self.labels, strict=True)
        return [{"cost": cost, "score": score, "label": label} for cost, score, label in points]

    def to_csv(self, path: Path | str) -> None:
        """Write cost, score, label; floats are written so that `from_csv` reads the same front."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["cost", "score", "label"])
            writer.writeheader()
            writer.writerows(self.rows())

    def to_json(self, path: Path | str) -> None:
        """Write a list of {"cost", "score", "label"}."""
        Path(path).write_text(json.dumps(self.rows(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_csv(
        cls, path: Path | str, cost: str = "cost", score: str = "score", label: str = "label"
    ) -> "ParetoFront":
        """The front of the points in a CSV file, by the names of its columns.

        Rows whose column `feasible`, if there is one, does not say True are over a bound; an empty cell is no
        result. ValueError names a column that is missing.
        """
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            known, rows = reader.fieldnames or [], list(reader)
        if missing := [name for name in (cost, score, label) if name not in known]:
            raise ValueError(f"{path} has no column '{missing[0]}'; columns: {', '.join(known)}")
        return cls.of(
            [float(row[cost] or math.nan) for row in rows],
            [float(row[score] or math.nan) for row in rows],
            [row[label] for row in rows],
            [row.get("feasible", "True") == "True" for row in rows],
        )


def attained(fronts: Sequence[ParetoFront], runs: int) -> ParetoFront:
    """What at least `runs` of the fronts attain: at each cost, the score that so many of them reach or pass.

    1 gives the best, len(fronts) the worst, half of them the median surface. A front without points attains nothing.
    Source: the empirical attainment function, Grunert da Fonseca, Fonseca and Hall (2001).
    """
    if not 1 <= runs <= len(fronts):
        raise ValueError(f"runs={runs} must be between 1 and the number of fronts, {len(fronts)}")
    filled = [front.points for front in fronts if front.costs]
    if runs > len(filled):
        return ParetoFront()
    sets = np.repeat(np.arange(1, len(filled) + 1), [len(points) for points in filled])
    cost, score, percent = (moocore.eaf(np.vstack(filled) * (1, -1), sets) * (1, -1, 1)).T
    level = np.isclose(percent, 100 * runs / len(filled))
    return ParetoFront.of(cost[level], score[level])
