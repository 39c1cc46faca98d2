"""The matrix of transfers as Markdown, as LaTeX, as a sentence and as a heat map."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from autoprune_lab.fronts.styles import COLOURS, save
from search.methods.figure import RC
from search.results.paired_answers import UNPRUNED
from search.results.text_table import is_true, latex_table, markdown_table

OWN, PLAIN = "minus_own", "minus_plain"
THERE = "the pruner tuned there"
LEAST = 2.0  # points of difference that are drawn as the largest, at least
_NOUGHT = 1e-9  # sums of equal scores may differ by rounding
_PALER = 1.25  # than the ends of the scale: numbers are read on it
_COLOURS = LinearSegmentedColormap.from_list("worse to better", [COLOURS[1], "white", COLOURS[0]])
_WIDTH, _HEIGHT = 0.92, 0.42  # of a cell, inches
Grid = tuple[list[str], list[list[str]]]
Line = Mapping[Any, Any]


def write(frame: pd.DataFrame, out: Path) -> str:
    """transfer.csv, .md, .tex, .png, .pdf and .svg; returns what the Markdown says."""
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "transfer.csv", index=False)
    text = f"{markdown(frame)}\n\n{verdict(frame)}"
    (out / "transfer.md").write_text(text + "\n", encoding="utf-8")
    (out / "transfer.tex").write_text(latex(frame) + "\n", encoding="utf-8")
    draw(frame, out / "transfer.png", "report split, 95 % intervals")
    return text


def markdown(frame: pd.DataFrame) -> str:
    """Two tables, a row who answers, a column where: score with the difference to the pruner tuned there; to `plain`.

    In percent and points, with 95 % intervals of the paired bootstrap.
    """
    return "\n\n".join(f"{told}\n\n{markdown_table(*grid)}" for told, grid in _grids(frame))


def latex(frame: pd.DataFrame) -> str:
    r"""The same tables as tabular environments; \usepackage{booktabs}."""
    return "\n\n".join(f"% {told}\n{latex_table(*grid)}" for told, grid in _grids(frame))


def verdict(frame: pd.DataFrame) -> str:
    """How many of the cells lose and win against the pruner that was tuned there, and against the one nobody tuned."""
    tuned = frame.dropna(subset=["trial"])
    said = [_counted(tuned, OWN, THERE), _counted(tuned, PLAIN, str(frame["plain"].iloc[0]))]
    return " ".join(sentence for sentence in said if sentence)


def draw(frame: pd.DataFrame, path: Path, title: str) -> list[Path]:
    """Write the matrix as PNG, PDF and SVG: score in percent, and in colour and points the difference to a reference.

    The reference is the pruner tuned there; where a column has none, the untuned one, in all columns. A frame is around
    what was tuned there; grey differences are not clear of 0. Gives the files.
    """
    against = OWN if not frame["own"].isna().any() else PLAIN
    rows, columns = _rows_of(frame), _columns_of(frame)
    gaps = 100 * frame.loc[frame["tuned"] != UNPRUNED].reindex(columns=[against])[against].abs()
    norm = CenteredNorm(halfrange=_PALER * max([LEAST, *gaps.dropna()]))
    with rc_context(RC):
        size = (2.6 + _WIDTH * len(columns), 1.3 + _HEIGHT * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        for line in frame.to_dict("records"):
            place = columns.index(_column_of(line, frame)), rows.index(_row_of(line, frame))
            _draw_cell(axes, place, line, against, norm)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks(range(len(columns)), [name.replace(", ", ",\n") for name in columns])
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="used on", ylabel="tuned on")
        axes.tick_params(length=0, top=False)
        axes.spines[:].set_visible(False)
        told = f"points over {THERE if against == OWN else frame['plain'].iloc[0]}"
        figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, shrink=0.8, aspect=14, label=told, drawedges=False)
        figure.suptitle(title, fontsize=8)
        return save(figure, path)


def _draw_cell(axes: Axes, place: tuple[int, int], line: Line, against: str, norm: CenteredNorm) -> None:
    x, y = place
    if line["note"]:
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="0.93", edgecolor="white"))
        axes.text(x, y, f"out of reach,\n{line['note']}", ha="center", va="center", fontsize=5, color="0.4")
        return
    own, gap = is_true(line["is_own"]), 100 * line.get(against, float("nan"))
    known = not pd.isna(gap) and line["tuned"] != UNPRUNED
    face = _COLOURS(norm(gap)) if known else "white"
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=0.8))
    if own:
        axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor="black", linewidth=0.9))
    axes.text(x, y - 0.14, f"{100 * line['score']:.1f}", ha="center", va="center", fontsize=7.5)
    if not pd.isna(gap):
        low, high = (100 * line[f"{against}:{end}"] for end in ("low", "high"))
        shade = "black" if low > _NOUGHT or high < -_NOUGHT else "0.45"
        axes.text(x, y + 0.24, _points(gap, low, high), ha="center", va="center", fontsize=5, color=shade)
    elif own:
        axes.text(x, y + 0.24, "tuned here", ha="center", va="center", fontsize=5)


def _grids(frame: pd.DataFrame) -> list[tuple[str, Grid]]:
    plain = str(frame["plain"].iloc[0])
    return [
        (f"Score in percent; points over {THERE}", _grid(frame, _scored)),
        (f"Points over {plain}", _grid(frame, lambda line: _gap(line, PLAIN))),
    ]


def _grid(frame: pd.DataFrame, cell: Callable[[Line], str]) -> Grid:
    rows, columns = _rows_of(frame), _columns_of(frame)
    told = {(_row_of(line, frame), _column_of(line, frame)): cell(line) for line in frame.to_dict("records")}
    return ["tuned on / used on", *columns], [[row, *(told[row, column] for column in columns)] for row in rows]


def _scored(line: Line) -> str:
    if line["note"]:
        return f"out of reach: {line['note']}"
    score = f"{100 * line['score']:.1f}"
    if is_true(line["is_own"]):
        return f"{score} (tuned here)"
    gap = _gap(line, OWN)
    return score if gap == "-" else f"{score}; {gap}"


def _gap(line: Line, against: str) -> str:
    if pd.isna(line.get(against, float("nan"))):
        return "-"
    return _points(*(100 * line[against + end] for end in ("", ":low", ":high")))


def _points(value: float, low: float, high: float) -> str:
    """'-2.1 [-3.4, -0.8]'; none of them is -0.0."""
    value, low, high = (round(number, 1) + 0.0 for number in (value, low, high))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def _counted(tuned: pd.DataFrame, against: str, reference: str) -> str:
    known = tuned.reindex(columns=[against, f"{against}:low", f"{against}:high"]).dropna()
    if known.empty:
        return ""
    lost, won = ((known[f"{against}:high"] < -_NOUGHT).sum(), (known[f"{against}:low"] > _NOUGHT).sum())
    return (
        f"Of {len(known)} cells {lost} lose to {reference}, {won} win and {len(known) - lost - won} cannot be told "
        f"from it; in the median {100 * known[against].median() + 0.0:+.1f} points."
    )


def _rows_of(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(_row_of(line, frame) for line in frame.to_dict("records")))


def _columns_of(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(_column_of(line, frame) for line in frame.to_dict("records")))


def _row_of(line: Line, frame: pd.DataFrame) -> str:
    """The study, and within which ratio where there are several."""
    several = frame["within"].nunique() > 1 and not pd.isna(line["within"])
    return f"{line['tuned']} at {line['within']:g}" if several else str(line["tuned"])


def _column_of(line: Line, frame: pd.DataFrame) -> str:
    """Model and task, as far as columns differ in them, and the ratio where there are several."""
    named = [name for name in ("model", "task") if frame[name].nunique() > 1] or ["model"]
    told = ", ".join(str(line[name]) for name in named)
    return f"{told} at {line['at']:g}" if frame["at"].nunique() > 1 else told
