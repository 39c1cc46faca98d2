"""The study page as one file without any network: template, style, script, Plotly and the data in one text."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from autoprune_lab.atomic_write import atomic_write


def render(studies: Sequence[dict[str, Any]], refresh: str | None = None) -> str:
    """The page of these studies (`search.results.page.data`).

    `refresh`: "reload" for a file that is written anew while its study runs, "fetch" for a page that is served.
    """
    held = payload(studies, refresh)[0].replace("<", "\\u003c")  # ends no <script>
    return held.join(_template())


def payload(studies: Sequence[dict[str, Any]], refresh: str | None) -> tuple[str, str]:
    """The page's data as JSON, and a mark that changes with them. ValueError for what JSON does not have (NaN)."""
    mark = hashlib.sha256(_json(studies).encode()).hexdigest()[:16]
    return _json({"studies": studies, "refresh": refresh, "mark": mark}), mark


def write(file: Path, studies: Sequence[dict[str, Any]], refresh: str | None = None) -> None:
    """Write the page; whoever opens it meanwhile finds a whole one. Raises OSError."""
    with atomic_write(file) as half:
        half.write_text(render(studies, refresh), encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


@cache
def _template() -> tuple[str, str]:
    """The page before and behind its data."""
    from plotly.offline import get_plotlyjs

    here = files("search.results.page")
    parts = {"plotly": get_plotlyjs()}
    for name, file in (("style", "page.css"), ("script", "page.js")):
        parts[name] = (here / file).read_text(encoding="utf-8")
    text = (here / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = part.join(text.split(f"<!--{name}-->"))
    before, behind = text.split("<!--data-->")
    return before, behind
