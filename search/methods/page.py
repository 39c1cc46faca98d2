"""The table of methods as Markdown and as LaTeX."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from search.methods.arms import OF
from search.results.text_table import is_true, latex_table, markdown_table

HEAD = ["method", f"tokens of {OF}"]
COSTS = {
    "flops_ratio": ("FLOPs ratio", 3),
    "paper_ratio": ("papers' ratio", 3),
    "scoring_ratio": ("scoring", 4),
    "entering": ("entering", 1),
    "leaving": ("leaving", 1),
    "time_ratio": ("time ratio", 3),
    "selection_share": ("selection's share", 3),
}
"""Columns of a row, what they are called, and the digits that they are shown with; a table may lack the last."""
GROUPS = {"a": "group A (hard)", "b": "group B (easy)"}
RELIABILITY = {"ece": "ECE", "brier": "Brier", "aurc": "AURC"}
OFFICIAL = "official/"  # before the name of a benchmark's own figure
NO_OP = " (no-op)"
Grid = tuple[list[str], list[list[str]]]


def markdown(frame: pd.DataFrame) -> str:
    """Tables with 95 % intervals: cost and score of every arm, the score of every kind of question, and reliability.

    The last holds how many answers are the unpruned model's, the scores within VTC-Bench's groups at that budget and
    their sizes, what the model's confidence is worth, and the benchmark's official figures. A no-op is an arm that no
    output tells from the unpruned model: it did nothing, or these samples cannot say.
    """
    return "\n\n".join(markdown_table(*grid) for grid in _grids(frame))


def latex(frame: pd.DataFrame) -> str:
    r"""The same tables as tabular environments; \usepackage{booktabs}."""
    return "\n\n".join(latex_table(*grid, n_labels=2) for grid in _grids(frame))


def _grids(frame: pd.DataFrame) -> list[Grid]:
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    kinds = [name.removeprefix("score/") for name in frame.columns if name.startswith("score/") and ":" not in name]
    known = {name: told for name, told in COSTS.items() if name in frame}
    costs = [_labels(row) + (_costs(row, known) if _ran(row) else [f"out of reach: {row['note']}"]) for row in rows]
    scores = [_labels(row) + [_percent(row, f"score/{kind}") for kind in kinds] for row in rows if _ran(row)]
    titles = [title for title, _ in known.values()]
    grids = [_filled([*HEAD, *titles, "score", "% of unpruned"], costs), _filled([*HEAD, *kinds], scores)]
    if "loyalty" in frame:
        official = [name for name in frame.columns if name.startswith(OFFICIAL)]
        groups = {name: title for name, title in GROUPS.items() if f"n_{name}" in frame}
        head = [*HEAD, "answers as unpruned", *groups.values(), *RELIABILITY.values()]
        trust = [
            [*_labels(row), _percent(row, "loyalty"), *(_group(row, name) for name in groups)]
            + [_number(row[name]) for name in (*RELIABILITY, *official)]
            for row in rows
            if _ran(row)
        ]
        grids.append(_filled([*head, *(name.removeprefix(OFFICIAL) for name in official)], trust))
    return grids


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _ran(row: Mapping[str, Any]) -> bool:
    return not row["note"]


def _labels(row: Mapping[str, Any]) -> list[str]:
    mark = NO_OP if is_true(row.get("no_op")) else ""
    return [row["method"] + mark, "" if math.isnan(row["tokens"]) else f"{row['tokens']:g}"]


def _costs(row: Mapping[str, Any], known: Mapping[str, tuple[str, int]]) -> list[str]:
    cells = [f"{row[name]:.{digits}f}" for name, (_, digits) in known.items()]
    return [*cells, _percent(row, "score"), _percent(row, "relative")]


def _group(row: Mapping[str, Any], name: str) -> str:
    """'12.5 [0.0, 25.0] of 40'; of the unpruned model, which has no budget, nothing."""
    size, empty = row[f"n_{name}"], math.isnan(row[f"score_{name}"])
    if math.isnan(size):
        return "-"
    return f"{'-' if empty else _percent(row, f'score_{name}')} of {size:.0f}"


def _percent(row: Mapping[str, Any], name: str) -> str:
    value, low, high = (100 * row[name + end] for end in ("", ":low", ":high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _filled(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Grid:
    """Short lines are filled up."""
    return list(head), [[*line, *[""] * (len(head) - len(line))] for line in lines]
