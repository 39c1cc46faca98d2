"""Pareto fronts in one picture: steps, bands over seeds, baselines with their intervals, the bound."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from autoprune_lab.fronts.direct_labels import label, part
from autoprune_lab.fronts.front import ParetoFront, attained
from autoprune_lab.fronts.shown import ShownFigure
from autoprune_lab.fronts.styles import COLOURS, is_known, style_of

COST_LABEL = "FLOPs ratio (pruned / unpruned prefill)"
SCORE_LABEL = "score (%)"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # another number than colours: pairs repeat late
BOUND_STYLES = ("--", "-.", ":")
GREY = "0.35"

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
    attain), and a band from the best to the worst. `measured` are a few points of a front, measured again elsewhere:
    filled, with their intervals, in the colour of the front of that name if there is one. Points named after a
    published method look as it does everywhere. Scores are fractions; the axis shows them in percent where `ylabel`
    says so. Draws into `axes`, or into a new figure; writes it to `path` if given. Names stand beside the data.
    """
    axes = ShownFigure(figsize=(7.5, 4.2), layout="constrained").subplots() if axes is None else axes
    again = {name: _array(group) for name, group in (measured or {}).items()}
    others = {name: _array(group) for name, group in (points or {}).items()}
    limits = sorted(set(bounds))
    until = _until(fronts, {**again, **others}, limits)
    looks = zip(cycle(COLOURS), cycle(MARKERS), strict=True)
    own = dict(zip(dict.fromkeys([*fronts, *again]), looks, strict=False))
    for name, front in fronts.items():
        _draw_front(axes, name, front, *own[name], until)
    for name, group in again.items():
        _draw_points(axes, name if name not in fronts else "", group, *own[name], own[name][0])
    for (name, group), (colour, marker) in zip(others.items(), looks, strict=False):
        if is_known(method := name.removeprefix("arm ")):
            colour, marker = style_of(method).colour, style_of(method).marker
        _draw_points(axes, name, group, colour, marker, "none")
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if ylabel.endswith("(%)"):
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _draw_lines(axes, limits, levels or {})
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # sizes are known from here on
    part(axes)
    if path is not None:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return figure


def _draw_lines(axes: Axes, limits: Sequence[float], levels: Mapping[str, float]) -> None:
    """Bounds upright, their names below; levels across, their names on them."""
    for bound, style in zip(limits, cycle(BOUND_STYLES), strict=False):
        axes.axvline(bound, color=GREY, linewidth=1.2, linestyle=style, label=f"bound {bound:g}", zorder=1)
        axes.annotate(
            f"bound {bound:g}", (bound, 0), (-3, 3), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            rotation=90, color=GREY, fontsize=7, va="bottom", ha="right",
        )  # fmt: skip
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=1.2, linestyle=(0, (1, 2)), label=name, zorder=1)
        axes.annotate(
            f"{name} {100 * level:.1f}", (0.01, level), (0, 2), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", color=GREY, fontsize=7,
        )  # fmt: skip


def _draw_front(
    axes: Axes, name: str, front: ParetoFront | Sequence[ParetoFront], colour: str, marker: str, until: float
) -> None:
    """One front as steps with markers; several as the median of them in a band."""
    if isinstance(front, ParetoFront):
        _steps(axes, front, until).set(color=colour, label=name, marker=marker, markersize=5)
        _name(axes, name, front, colour, until)
        return
    n = len(front)
    best, middle, worst = (attained(front, runs) for runs in (1, (n + 1) // 2, n))
    _steps(axes, middle, until).set(color=colour, label=name, marker=marker, markersize=5)
    _name(axes, f"{name}: median of {n}, best to worst", middle, colour, until)
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


def _name(axes: Axes, name: str, front: ParetoFront, colour: str, until: float) -> None:
    """Beside the end of its line; nowhere, if there is none."""
    if front.costs:
        label(axes, name, (max(until, front.costs[-1]), front.scores[-1]), colour)


def _draw_points(axes: Axes, name: str, group: Array, colour: str, marker: str, face: str) -> None:
    """Points with their intervals, and the name, if any, beside the dearest."""
    if not len(group):
        return
    cost, score = group[:, 0], group[:, 1]
    if group.shape[1] == 4:
        errors = np.maximum([score - group[:, 2], group[:, 3] - score], 0)
        axes.errorbar(cost, score, errors, fmt="none", color=colour, elinewidth=1, capsize=2, alpha=0.8)
    axes.plot(cost, score, marker, label=name or "_", color=colour, markerfacecolor=face, markersize=6)
    if name:
        last = int(cost.argmax())
        label(axes, name, (float(cost[last]), float(score[last])), colour)


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
