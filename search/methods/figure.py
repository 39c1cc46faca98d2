"""The table of methods as a figure for print: a small panel a family, all of them on the same axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from autoprune_lab.fronts.direct_labels import label, part
from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.fronts.plot import COST_LABEL
from autoprune_lab.fronts.styles import BASELINES, FAMILIES, OTHER, save, style_of
from search.methods.arms import UNPRUNED
from search.results.text_table import is_true

UNPRUNED_LABEL = "unpruned"
FULL, COLUMN = 6.9, 3.3  # inches: across a page of two columns, and one of them
CHANCE = "random"
_PITCH, _SPREAD = 2.2, 13.0  # points between neighbours whose intervals would overlap, and at most for all of a panel
_GREY = "0.8"
RC: Any = {
    "font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7, "xtick.labelsize": 6, "ytick.labelsize": 6,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 2, "ytick.major.size": 2,
}  # fmt: skip


def draw(frame: pd.DataFrame, path: Path, title: str, width: float = FULL) -> list[Path]:
    """Write PNG, PDF and SVG of score against FLOPs ratio with 95 % intervals, `width` inches wide.

    Behind every family: the front of all methods in grey, and chance, dashed. Methods of a panel stand a little aside
    of one another, so that their intervals can be told apart. An arm that is a no-op has a ring. Gives the files.
    """
    run = frame.dropna(subset=["score"])
    pruned = run[run["method"] != UNPRUNED].sort_values("flops_ratio")
    families = [name for name in (*FAMILIES, OTHER) if (pruned["method"].map(_family) == name).any()]
    with rc_context(RC):
        figure, panels = _panels(max(len(families), 1), width)
        for family, axes in zip(families, panels, strict=False):
            _draw_family(axes, family, pruned, run.loc[run["method"] == UNPRUNED, "score"])
        no_ops = bool(_no_ops(pruned).any())
        _set_limits(panels, run)
        figure.suptitle(title, fontsize=8)
        figure.supxlabel(
            COST_LABEL + ("\nringed: no output differs from the unpruned one" if no_ops else ""), fontsize=7
        )
        figure.supylabel("score (%), mean over kinds", fontsize=7)
        figure.draw_without_rendering()  # sizes are known from here on
        for axes in panels:
            part(axes)
        return save(figure, path)


def _panels(n: int, width: float) -> tuple[Figure, Sequence[Axes]]:
    columns = min(n, 3) if width > 1.5 * COLUMN else 1
    rows = -(-n // columns)
    figure = Figure(figsize=(width, 0.6 + rows * (1.75 if columns > 1 else 1.2)), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in panels[n:]:
        spare.set_axis_off()
    for above in panels[max(n - columns, 0) : n]:
        above.xaxis.set_tick_params(labelbottom=True)
    return figure, panels[:n].tolist()


def _set_limits(panels: Sequence[Axes], run: pd.DataFrame) -> None:
    """One pair of axes for all: every interval is seen, beside the unpruned model's cost, and a name at its score."""
    cost = run.loc[run["method"] != UNPRUNED, "flops_ratio"]
    ends = (cost.min(), cost.max()), (run["score:low"].min(), run["score:high"].max())
    for axes in panels[:1]:  # shared
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        if len(cost):
            axes.set_xlim(*_with_room(*ends[0]))
            axes.set_ylim(*_with_room(*ends[1]))
        for score in run.loc[run["method"] == UNPRUNED, "score"]:
            axes.annotate(
                UNPRUNED_LABEL, (0.02, score), (0, 1.5), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", color="0.4", fontsize=5.8,
            )  # fmt: skip


def _with_room(low: float, high: float) -> tuple[float, float]:
    room = 0.09 * (high - low) or 0.05
    return low - room, high + room


def _draw_family(axes: Axes, family: str, pruned: pd.DataFrame, unpruned: Any) -> None:
    """One family's methods before the front of all, chance and the unpruned score."""
    front = ParetoFront.of(pruned["flops_ratio"], pruned["score"], range(len(pruned)))
    axes.step(front.costs, front.scores, where="post", color=_GREY, linewidth=2.2, zorder=1, solid_capstyle="butt")
    for score in unpruned:
        axes.axhline(score, color="0.4", linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1)
    groups = {str(name): rows for name, rows in pruned.groupby("method", sort=False)}
    if family != BASELINES and CHANCE in groups:
        rows = groups[CHANCE]
        axes.plot(rows["flops_ratio"], rows["score"], color=style_of(CHANCE).colour, **_faint())
        _name(axes, CHANCE, rows, axes.transData)
    own = sorted((name for name in groups if _family(name) == family), key=_place)
    for i, name in enumerate(own):
        aside = (i - (len(own) - 1) / 2) * min(_PITCH, _SPREAD / len(own))
        _name(axes, name, groups[name], _draw_method(axes, name, groups[name], aside))
    axes.set_title(family, loc="left", fontweight="bold", pad=3)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_method(axes: Axes, name: str, rows: pd.DataFrame, aside: float) -> Transform:
    """A method's arms as a line with intervals, `aside` points to the right of where they are. Gives where that is."""
    style, figure = style_of(name), axes.get_figure(root=True)
    assert figure is not None
    moved = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
    bars = np.maximum([rows["score"] - rows["score:low"], rows["score:high"] - rows["score"]], 0)
    axes.errorbar(
        rows["flops_ratio"], rows["score"], bars, color=style.colour, marker=style.marker, markersize=3,
        markerfacecolor="white" if style.face == "none" else style.face, markeredgewidth=0.7, linewidth=0.9,
        elinewidth=0.6, capsize=0, linestyle="--" if style.family == BASELINES else "-", transform=moved, zorder=3,
    )  # fmt: skip
    ringed = rows[_no_ops(rows)]
    axes.plot(
        ringed["flops_ratio"], ringed["score"], "o", markersize=6.5, markerfacecolor="none", markeredgecolor="black",
        markeredgewidth=0.7, transform=moved, zorder=4,
    )  # fmt: skip
    return moved


def _faint() -> Mapping[str, Any]:
    return {"linestyle": "--", "linewidth": 0.6, "alpha": 0.6, "zorder": 2}


def _name(axes: Axes, name: str, rows: pd.DataFrame, at: Transform) -> None:
    """The method's name beside the panel, at its dearest arm."""
    last = rows.iloc[-1]
    label(axes, name, (float(last["flops_ratio"]), float(last["score"])), style_of(name).colour, 5.8, at)


def _no_ops(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which arms are no-ops; none in a table from before that was looked at."""
    known: pd.Series[bool] = rows.reindex(columns=["no_op"])["no_op"].map(is_true).astype(bool)
    return known


def _family(method: str) -> str:
    return style_of(method).family


def _place(method: str) -> int:
    names = FAMILIES.get(_family(method), ())
    return names.index(method) if method in names else len(names)
