"""The table of methods as Markdown and as a picture."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from autoprune_lab.fronts.plot import COLOURS, COST_LABEL, MARKERS
from search.methods.arms import ALWAYS, OF, UNPRUNED

COSTS = {"flops_ratio": 3, "paper_ratio": 3, "scoring_ratio": 4, "entering": 1, "leaving": 1, "time_ratio": 3}
"""Columns of a row, and the digits that they are shown with."""
HEAD = [
    "method",
    f"tokens of {OF}",
    "FLOPs ratio",
    "papers' ratio",
    "scoring",
    "entering",
    "leaving",
    "time ratio",
    "score",
    "% of unpruned",
]


def markdown(frame: pd.DataFrame) -> str:
    """Two tables, with 95 % intervals: cost and score of every arm, then the score of every kind of question."""
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    kinds = [name.removeprefix("score/") for name in frame.columns if name.startswith("score/") and ":" not in name]
    costs = [_labels(row) + (_costs(row) if _ran(row) else [f"out of reach: {row['note']}"]) for row in rows]
    scores = [_labels(row) + [_percent(row, f"score/{kind}") for kind in kinds] for row in rows if _ran(row)]
    return _grid(HEAD, costs) + "\n\n" + _grid([*HEAD[:2], *kinds], scores)


def draw(frame: pd.DataFrame, path: Path, title: str) -> None:
    """Score against FLOPs ratio with 95 % intervals, a line a method, dashed for chance; the unpruned score dotted."""
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    run = frame.dropna(subset=["score"])
    for score in run.loc[run["method"] == UNPRUNED, "score"]:
        axes.axhline(score, color="black", linestyle=":", linewidth=1, label="unpruned")
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=True)
    pruned = run[run["method"] != UNPRUNED].sort_values("flops_ratio")
    for (name, rows), (colour, marker) in zip(pruned.groupby("method"), styles, strict=False):
        bars = np.maximum([rows["score"] - rows["score:low"], rows["score:high"] - rows["score"]], 0)
        axes.errorbar(
            rows["flops_ratio"], rows["score"], bars, color=colour, marker=marker, label=name, capsize=2, linewidth=1,
            linestyle="--" if name in ALWAYS else "-",
        )  # fmt: skip
    axes.set(title=title, xlabel=COST_LABEL, ylabel="score, mean over kinds")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(path, dpi=160)


def _ran(row: Mapping[str, Any]) -> bool:
    return not row["note"]


def _labels(row: Mapping[str, Any]) -> list[str]:
    return [row["method"], "" if math.isnan(row["tokens"]) else f"{row['tokens']:g}"]


def _costs(row: Mapping[str, Any]) -> list[str]:
    cells = [f"{row[name]:.{digits}f}" for name, digits in COSTS.items()]
    return [*cells, _percent(row, "score"), _percent(row, "relative")]


def _percent(row: Mapping[str, Any], name: str) -> str:
    value, low, high = (100 * row[name + end] for end in ("", ":low", ":high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; short lines are filled up."""
    filled = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *filled])
