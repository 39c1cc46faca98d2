"""One colour and one marker for a method in every figure, and figures on disk as paper and screen want them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Source: M. Okabe and K. Ito, Color Universal Design (2008): told apart by colour-blind readers; without yellow."""
BASELINES, OTHER = "baselines", "other"
FAMILIES = {
    "attention": ("fastv", "sparsevlm", "feather", "trim", "vla_pruner"),
    "vision-only": ("fastervlm", "vispruner", "hiprune", "holov", "gprune", "vidcom2", "evs"),
    "diversity": ("divprune", "dart", "cdpruner", "scope", "mmr"),
    "merging": (
        "visionzip", "prumerge", "prumerge_plus", "tome", "pact", "ficoco_l", "dycoke", "fastvid", "holitom",
    ),
    "depth": ("pdrop", "autoprune", "autoprune_official", "autoprune_spend", "vtw", "info_horizon"),
    BASELINES: ("random", "uniform", "pooling", "window_uniform", "downsample"),
}  # fmt: skip
"""Which methods look alike: by what the text attends to, by the picture alone, by being unlike one another, by what is
merged, by how many stay at which depth. A name keeps its place: a new one goes to its family's end."""
_MARKERS = dict(zip((*FAMILIES, OTHER), ("o", "s", "^", "D", "v", "P", "X"), strict=True))
_FORMATS: dict[str, dict[str, Any]] = {".png": {"dpi": 300}, ".pdf": {}, ".svg": {}}
_SAME = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # the same picture, the same file
_FONTS: Any = {"pdf.fonttype": 42, "svg.hashsalt": "autoprune"}  # a PDF's text stays text


class Style(NamedTuple):
    """How a method looks; a marker with `face` "none" is hollow."""

    family: str
    colour: str
    marker: str
    face: str


def is_known(method: str) -> bool:
    """Has the method a look of its own?"""
    return any(method in names for names in FAMILIES.values())


def style_of(method: str) -> Style:
    """The look that goes with a method's name, whatever else is drawn.

    The family is the marker, the place in the family the colour, hollow from the eighth on. A name that is not known
    gets a colour by its letters, so that two of them may look alike: label them.
    """
    family = next((family for family, names in FAMILIES.items() if method in names), OTHER)
    place = FAMILIES[family].index(method) if family in FAMILIES else crc32(method.encode()) % (2 * len(COLOURS))
    palette = COLOURS[::-1] if family == BASELINES else COLOURS  # black is chance
    colour = palette[place % len(palette)]
    return Style(family, colour, _MARKERS[family], colour if place < len(palette) else "none")


def save(figure: Figure, path: Path | str, **options: Any) -> list[Path]:
    """Write the figure as PNG, PDF and SVG beside one another; `path` names one of them. Gives the files.

    It is laid out once, for the PNG: all three have every part in the same place.
    """
    files = [Path(path).with_suffix(suffix) for suffix in _FORMATS]
    with rc_context(_FONTS), _laid_out(figure, _FORMATS[".png"]["dpi"]):
        if options.get("bbox_inches") == "tight":
            options["bbox_inches"] = figure.get_tightbbox().padded(rcParams["savefig.pad_inches"])
        for file in files:
            figure.savefig(file, metadata=_SAME.get(file.suffix), **_FORMATS[file.suffix] | options)
    return files


@contextmanager
def _laid_out(figure: Figure, dpi: int) -> Iterator[None]:
    """Every part in its place at that resolution, and left there meanwhile."""
    engine, before = figure.get_layout_engine(), figure.dpi
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_dpi(before)
        figure.set_layout_engine(engine)
