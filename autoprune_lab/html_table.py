"""Small tables for notebooks: never more than a screen, whatever they tell of."""

import html
import math
from collections.abc import Sequence

MOST_ROWS, MOST_COLUMNS = 20, 12
SIGNS = 360  # of a row, shared out among its cells


def html_table(caption: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The first rows and columns, how many more there are, and each cell as far as there is room; all text escaped.

    Numbers have three digits behind the point; None and NaN are a dash.
    """
    shown = list(headers[:MOST_COLUMNS])
    room = SIGNS // max(len(shown), 1)
    lines = [_line("th", shown, room), *(_line("td", row[: len(shown)], room) for row in rows[:MOST_ROWS])]
    more = [
        f"{len(those) - most} more {what}"
        for what, those, most in (("rows", rows, MOST_ROWS), ("columns", headers, MOST_COLUMNS))
        if len(those) > most
    ]
    note = f"<p>and {' and '.join(more)}</p>" if more else ""
    told = html.escape(_cut(caption, SIGNS))
    return f"<table><caption>{told}</caption>{''.join(lines)}</table>{note}"


def _line(tag: str, cells: Sequence[object], room: int) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(_cut(_text(cell), room))}</{tag}>' for cell in cells)}</tr>"


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
