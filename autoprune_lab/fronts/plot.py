"""Pareto fronts in one picture: steps, bands over seeds, baselines with their intervals, the bound."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from autoprune_lab.fronts.front import ParetoFront, attained
from autoprune_lab.fronts.shown import ShownFigure
from autoprune_lab.fronts.styles import COLOURS, is_known, style_of

COST_LABEL = "FLOPs ratio (pruned / unpruned prefill)"
SCORE_LABEL = "score (fraction of 1)"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # another number than colours: pairs repeat late
BOUND_STYLES = ("--", "-.", ":")

Array = Float[np.ndarray, "points columns"]
Points = Iterable[Sequence[float]]  # (cost, score), or (cost, score, low, high) with an interval of the score


def plot_fronts(
    fronts: Mapping[str, ParetoFront | Sequence[ParetoFront]],
    points: Mapping[str, Points] | None = None,
    measured: Mapping[str, Points] | None = None,
    bounds: Iterable[float] = (),
    levels: Mapping[str, float] | None = None,
    axes: Axes | None = None,
    path: Path | str | None = None,
    title: str = "",
    xlabel: str = COST_LABEL,
    ylabel: str = SCORE_LABEL,
) -> Figure:
    """Overlay fronts; beside them `points` (hollow: trials, baselines), `bounds` on the cost, `levels` of the score.

    Several fronts under one name are seeds of one study: their median attainment surface (what at least half of them
    attain), and a band from the best to the worst. `measured` are points of the front of that name, dominated ones
    too, with their intervals. Points named after a published method look as it does everywhere. Draws into `axes`, or
    into a new figure; writes it to `path` if given. The legend stands beside the data.
    """
    axes = ShownFigure(figsize=(7.5, 4.2), layout="constrained").subplots() if axes is None else axes
    others = {name: _array(group) for name, group in (points or {}).items()}
    limits = sorted(set(bounds))
    until = _until(fronts, others, limits)
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=True)
    for (name, front), (colour, marker) in zip(fronts.items(), styles, strict=False):
        _draw_bars(axes, _array((measured or {}).get(name, ())), colour, marker)
        _draw_front(axes, name, front, colour, marker, until)
    for (name, group), (colour, marker) in zip(others.items(), styles, strict=False):
        if is_known(method := name.removeprefix("arm ")):
            colour, marker = style_of(method).colour, style_of(method).marker
        _draw_bars(axes, group, colour, "none")
        axes.plot(*group[:, :2].T, marker, label=name, color=colour, markerfacecolor="none", markersize=7)
    _draw_lines(axes, limits, levels or {})
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _finish(axes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    if path is not None:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return figure


def _draw_lines(axes: Axes, limits: Sequence[float], levels: Mapping[str, float]) -> None:
    """Bounds upright, levels across."""
    for bound, style in zip(limits, cycle(BOUND_STYLES), strict=False):
        axes.axvline(bound, color="0.35", linewidth=1.2, linestyle=style, label=f"bound {bound:g}", zorder=1)
    for name, level in levels.items():
        axes.axhline(level, color="0.35", linewidth=1.2, linestyle=(0, (1, 2)), label=f"{name} {level:.3f}", zorder=1)


def _finish(axes: Axes) -> None:
    """A light grid, no box, the legend beside the data."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)


def _draw_front(
    axes: Axes, name: str, front: ParetoFront | Sequence[ParetoFront], colour: str, marker: str, until: float
) -> None:
    """One front as steps with markers; several as the median of them in a band."""
    if isinstance(front, ParetoFront):
        _steps(axes, front, until).set(color=colour, label=name, marker=marker, markersize=5)
        return
    n = len(front)
    best, middle, worst = (attained(front, runs) for runs in (1, (n + 1) // 2, n))
    label = f"{name}: median of {n},\nband: best to worst"
    _steps(axes, middle, until).set(color=colour, label=label, marker=marker, markersize=5)
    for edge in (best, worst):
        _steps(axes, edge, until).set(color=colour, linewidth=0.7, alpha=0.6)
    costs = np.unique([*best.costs, *worst.costs, until])
    low, high = (np.array([edge.score_at(cost) for cost in costs.tolist()]) for edge in (worst, best))
    axes.fill_between(costs, low, high, step="post", color=colour, alpha=0.15, linewidth=0)


def _steps(axes: Axes, front: ParetoFront, until: float) -> Line2D:
    """The score attained at each cost: a step up at each point, flat up to `until`."""
    end = [max(until, front.costs[-1])] if front.costs else []
    costs, scores = [*front.costs, *end], [*front.scores, *front.scores[-1:]]
    (line,) = axes.step(costs, scores, where="post", markevery=range(len(front.costs)))  # none where the line ends
    return line


def _draw_bars(axes: Axes, group: Array, colour: str, marker: str) -> None:
    """Each point's interval as a bar, with a small hollow marker at the point."""
    if group.shape[1] == 4 and len(group):
        cost, score, low, high = group.T
        errors = np.maximum([score - low, high - score], 0)
        axes.errorbar(
            cost, score, errors, fmt=marker, color=colour, mfc="none", markersize=4, elinewidth=1, capsize=2, alpha=0.8
        )


def _array(points: Points) -> Array:
    rows = [tuple(row) for row in points]
    return np.array(rows, dtype=float).reshape(len(rows), len(rows[0]) if rows else 2)


def _until(
    fronts: Mapping[str, ParetoFront | Sequence[ParetoFront]],
    others: Mapping[str, Array],
    limits: Sequence[float],
) -> float:
    """How far to the right fronts go on: to the loosest bound, else to the dearest thing drawn."""
    if limits:
        return limits[-1]
    runs = [run for front in fronts.values() for run in ([front] if isinstance(front, ParetoFront) else front)]
    costs = [cost for front in runs for cost in front.costs] + [
        cost for group in others.values() for cost in group[:, 0]
    ]
    return float(max(costs, default=1.0))
