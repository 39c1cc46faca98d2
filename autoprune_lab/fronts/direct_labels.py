"""Names beside what they name, instead of a legend: to the right of a panel, with a thin line, none over another."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Transform

_LINE = 1.15  # of the size of a label's letters


def label(
    axes: Axes, name: str, point: tuple[float, float], colour: str, size: float = 8, at: Transform | None = None
) -> None:
    """Write the name to the right of the panel, a line leads to the point, which lies where `at` says; see `part`."""
    axes.annotate(
        name, point, (1.03, point[1]), xycoords=at or axes.transData, textcoords=axes.get_yaxis_transform(),
        color=colour, fontsize=size, va="center", annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.35, "alpha": 0.7, "shrinkA": 0, "shrinkB": 2,
                    "relpos": (0, 0.5)},
    )  # fmt: skip


def part(axes: Axes) -> None:
    """Move the labels of a panel up and down until none covers another; its limits and size must stand by now."""
    named = [text for text in axes.texts if isinstance(text, Annotation) and text.arrow_patch is not None]
    labels = sorted(named, key=lambda text: text.xyann[1])
    if not labels:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    low, high = axes.get_ylim()
    height = axes.get_window_extent().height * 72 / figure.dpi
    least = _LINE * float(labels[0].get_fontsize()) / height * (high - low)
    for text, y in zip(labels, apart([text.xyann[1] for text in labels], least, low, high), strict=True):
        text.xyann = (text.xyann[0], y)


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Sorted places moved as little as must be, so that neighbours are `least` apart, from `low` to `high` if possible.

    Runs of places that are too near are set about their mean, and joined to the next run where they reach it.
    """
    runs: list[list[float]] = []
    for place in places:
        runs.append([place])
        while len(runs) > 1 and _bottom(runs[-1], least, low, high) < _top(runs[-2], least, low, high) + least:
            runs[-2:] = [runs[-2] + runs[-1]]
    return [_bottom(run, least, low, high) + i * least for run in runs for i in range(len(run))]


def _bottom(run: Sequence[float], least: float, low: float, high: float) -> float:
    span = (len(run) - 1) * least
    return max(min(float(np.mean(run)) - span / 2, high - span), low)


def _top(run: Sequence[float], least: float, low: float, high: float) -> float:
    return _bottom(run, least, low, high) + (len(run) - 1) * least
