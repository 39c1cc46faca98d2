"""Pareto fronts of cost (lower is better) against score (higher is better): measures, files, plots."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

COST_LABEL = "FLOPs ratio (pruned / unpruned prefill)"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # another number than colours: pairs repeat late


def pareto_mask(costs: ArrayLike, scores: ArrayLike) -> Bool[np.ndarray, "points"]:
    """True where no other point costs no more and scores no less, one of them strictly.

    Equal points do not dominate each other. A point that is not finite is never on the front.
    """
    cost, score = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    if cost.ndim != 1 or cost.shape != score.shape:
        raise ValueError(f"costs {cost.shape} and scores {score.shape} must be two lists of one length")
    finite = np.isfinite(cost) & np.isfinite(score)
    levels, level = np.unique(cost[finite], return_inverse=True)
    best = np.full(len(levels), -np.inf)
    np.maximum.at(best, level, score[finite])  # at each cost
    cheaper = np.maximum.accumulate(np.append(-np.inf, best))[:-1]  # at all lower costs
    mask = np.zeros(len(cost), dtype=bool)
    mask[finite] = (score[finite] == best[level]) & (best > cheaper)[level]
    return mask


@dataclass(frozen=True)
class ParetoFront:
    """The non-dominated points, by strictly rising cost and score, each with a label. It may be empty."""

    costs: tuple[float, ...]
    scores: tuple[float, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless the points are a front; `ParetoFront.of` makes one of any points."""
        rising = all(low < high for values in (self.costs, self.scores) for low, high in pairwise(values))
        if not (rising and len(self.costs) == len(self.scores) == len(self.labels)):
            raise ValueError("costs and scores must rise strictly, one label each: use ParetoFront.of")

    @classmethod
    def of(cls, costs: ArrayLike, scores: ArrayLike, labels: Sequence[object] | None = None) -> "ParetoFront":
        """The front of any points. Of equal points the first stays; labels default to positions."""
        cost, score = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
        names = range(len(cost)) if labels is None else labels
        if len(names) != len(cost):
            raise ValueError(f"{len(names)} labels for {len(cost)} points: give one each")
        kept = np.flatnonzero(pareto_mask(cost, score))
        order = kept[np.unique(cost[kept], return_index=True)[1]]  # on a front, equal costs are equal points
        return cls(tuple(cost[order].tolist()), tuple(score[order].tolist()), tuple(str(names[i]) for i in order))

    def hypervolume(self, reference_cost: float = 1.0, reference_score: float = 0.0) -> float:
        """Area between the front and a reference point that is dearer and worse; higher is better.

        Points beyond the reference add nothing. Source: Zitzler and Thiele (1998), the S metric.
        """
        edges = np.minimum(np.array([*self.costs, reference_cost]), reference_cost)
        return float(np.diff(edges) @ np.maximum(np.array(self.scores) - reference_score, 0.0))

    def score_at(self, cost: float) -> float:
        """The best score that costs no more than `cost`; NaN where nothing is that cheap."""
        affordable = int(np.searchsorted(self.costs, cost, side="right"))
        return self.scores[affordable - 1] if affordable else math.nan

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
    def from_csv(cls, path: Path | str) -> "ParetoFront":
        """The front of the points in a CSV file with the columns cost, score and label."""
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return cls.of(
            [float(row["cost"]) for row in rows],
            [float(row["score"]) for row in rows],
            [row["label"] for row in rows],
        )

    def plot(
        self,
        axes: Axes,
        name: str,
        colour: str = COLOURS[0],
        marker: str = MARKERS[0],
        until: float | None = None,
    ) -> None:
        """Draw the points and the score attained at each cost: a step up at each, flat up to `until`."""
        end = [] if until is None or not self.costs else [max(until, self.costs[-1])]
        costs, scores = [*self.costs, *end], [*self.scores, *self.scores[-1:][: len(end)]]
        (line,) = axes.step(costs, scores, where="post", color=colour, label=name)
        line.set(marker=marker, markersize=5, markevery=range(len(self.costs)))  # none where the line just ends


def plot_fronts(
    fronts: Mapping[str, ParetoFront],
    points: Mapping[str, Iterable[tuple[float, float]]] | None = None,
    axes: Axes | None = None,
    path: Path | str | None = None,
    title: str = "",
    xlabel: str = COST_LABEL,
    ylabel: str = "accuracy",
) -> Figure:
    """Overlay fronts, and named groups of (cost, score) points as hollow markers, e.g. published baselines.

    Draws into `axes`, or into a new figure; writes it to `path` if given. The legend stands beside the data.
    """
    axes = Figure(figsize=(7.5, 4.2), layout="constrained").subplots() if axes is None else axes
    others = {name: list(group) for name, group in (points or {}).items()}
    costs = [cost for front in fronts.values() for cost in front.costs]
    costs += [cost for group in others.values() for cost, _ in group]
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=True)
    for (name, front), (colour, marker) in zip(fronts.items(), styles, strict=False):
        front.plot(axes, name, colour, marker, until=max(costs, default=1.0))
    for (name, group), (colour, marker) in zip(others.items(), styles, strict=False):
        x, y = np.array(group, dtype=float).reshape(-1, 2).T
        axes.plot(x, y, marker, label=name, color=colour, markerfacecolor="none", markersize=7)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    if path is not None:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return figure
