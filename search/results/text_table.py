"""Tables as plain text, as Markdown and as LaTeX."""

import math
from collections.abc import Sequence

Cell = str | float | int | bool | None


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns aligned, the first to the left, the others to the right."""
    texts = [list(headers), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(headers))]
    lines = [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in texts)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as they are, a line a row; none ends in a line break."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows))


def latex_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], n_labels: int = 1) -> str:
    """A tabular environment for booktabs, the first `n_labels` columns to the left, the others to the right."""
    lines = [" & ".join(_escaped(_text(cell)) for cell in row) + r" \\" for row in (headers, *rows)]
    columns = "l" * n_labels + "r" * (len(headers) - n_labels)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
         r"\end{tabular}"]
    )  # fmt: skip


def _escaped(text: str) -> str:
    """The text as LaTeX prints it; a bracket at a line's start would be an argument of the line break before it."""
    told = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}"}
    return "".join(told.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)


def is_true(cell: object) -> bool:
    """Is a cell of a CSV file the truth value True? A column with gaps holds texts and NaN."""
    return str(cell) == "True"


def interval(low: float, high: float) -> str:
    """'[0.912, 0.956]'."""
    return f"[{low:.3f}, {high:.3f}]"


def _text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else ""
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
