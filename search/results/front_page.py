"""The front as one small HTML page that needs no network: every trial a dot that says its settings when pointed at."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from search.results.trial_table import cost_column

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 760, 460, 64, 52, 18
STYLE = """\
body{font:14px system-ui,sans-serif;margin:1.5em;color:#222}svg{max-width:100%;height:auto}
text{font-size:12px;fill:#444}.grid{stroke:#ddd}.front{fill:none;stroke:#0072b2;stroke-width:2}
.trial{fill:#fff;stroke:#888;stroke-width:1.5}.best{fill:#0072b2;stroke:#0072b2}circle:hover{stroke-width:6}
table{border-collapse:collapse;margin-top:1em}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #eee}"""


@dataclass(frozen=True)
class Dot:
    """A trial within the bound."""

    label: str
    cost: float
    score: float
    front: bool
    settings: Mapping[str, object]


def dots_of(trials: pd.DataFrame) -> list[Dot]:
    """The trials within the bound, of the frame of `search.results.trial_table.trials_frame`."""
    names = [name for name in trials.columns if "pruner." in str(name)]
    return [
        Dot(
            str(row["trial"]),
            row[cost_column(trials)],
            row["score"],
            bool(row["front"]),
            {str(name): row[name] for name in names if not pd.isna(row[name])},
        )
        for row in trials[trials["feasible"]].to_dict("records")
    ]


def page(title: str, dots: Sequence[Dot], xlabel: str, ylabel: str) -> str:
    """The whole page; dots whose cost or score is not finite are left out."""
    shown = [dot for dot in dots if math.isfinite(dot.cost) and math.isfinite(dot.score)]
    front = sorted((dot for dot in shown if dot.front), key=lambda dot: dot.cost)
    body = _picture(shown, front, xlabel, ylabel) if shown else "<p>No trial is within the bound.</p>"
    name = html.escape(title)
    head = f'<meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
    below = _table(front, xlabel, ylabel)
    return f"<!doctype html><html><head>{head}</head><body><h1>{name}</h1>\n{body}\n{below}\n</body></html>\n"


@dataclass(frozen=True)
class _Axis:
    """Data between `low` and `high` on pixels from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 1)

    def ticks(self) -> list[float]:
        """Round numbers, four to nine."""
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _picture(dots: Sequence[Dot], front: Sequence[Dot], xlabel: str, ylabel: str) -> str:
    x = _Axis(*_span([dot.cost for dot in dots]), LEFT, WIDTH - EDGE)
    y = _Axis(*_span([dot.score for dot in dots]), HEIGHT - BOTTOM, EDGE)
    lines = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">']
    for tick in x.ticks():
        lines.append(f'<path class="grid" d="M{x(tick)} {y.first}V{y.last}"/>')
        lines.append(f'<text x="{x(tick)}" y="{y.first + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks():
        lines.append(f'<path class="grid" d="M{x.first} {y(tick)}H{x.last}"/>')
        lines.append(f'<text x="{x.first - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    middle = (y.first + y.last) / 2
    centre = f'x="{(x.first + x.last) / 2}" y="{HEIGHT - 12}" text-anchor="middle"'
    lines.append(f"<text {centre}>{html.escape(xlabel)}</text>")
    turned = f'transform="rotate(-90 16 {middle})"'
    lines.append(f'<text x="16" y="{middle}" text-anchor="middle" {turned}>{html.escape(ylabel)}</text>')
    steps = "".join(f"H{x(dot.cost)}V{y(dot.score)}" for dot in front)
    lines.append(f'<path class="front" d="M{x(front[0].cost)} {y(front[0].score)}{steps}H{x.last}"/>' if front else "")
    for dot in sorted(dots, key=lambda dot: dot.front):
        lines.append(_circle(dot, x, y, xlabel, ylabel))
    return "\n".join([*lines, "</svg>"])


def _circle(dot: Dot, x: _Axis, y: _Axis, xlabel: str, ylabel: str) -> str:
    facts = {xlabel: f"{dot.cost:.4f}", ylabel: f"{dot.score:.4f}", **dot.settings}
    says = "\n".join([f"trial {dot.label}", *(f"{key}: {value}" for key, value in facts.items())])
    kind = "best" if dot.front else "trial"
    place = f'cx="{x(dot.cost)}" cy="{y(dot.score)}" r="5"'
    return f'<circle class="{kind}" {place}><title>{html.escape(says)}</title></circle>'


def _span(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values take."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin


def _table(front: Sequence[Dot], xlabel: str, ylabel: str) -> str:
    names = list(dict.fromkeys(name for dot in front for name in dot.settings))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("trial", xlabel, ylabel, *names))
    rows = [
        "".join(
            f"<td>{html.escape(str(cell))}</td>"
            for cell in (dot.label, f"{dot.cost:.4f}", f"{dot.score:.4f}", *(dot.settings.get(n, "") for n in names))
        )
        for dot in front
    ]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
