"""What stays of several pictures as one image, without matplotlib: quick enough to be made while a study runs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw

DARK = 0.25  # what is left of a dropped patch's brightness
MOST_LAYERS = 5
PANEL = 168  # pixels of one panel's width
LINE, GAP = 16, 6  # pixels of a line of text; between panels


def contact_sheet(
    pictures: UInt8[np.ndarray, "samples height width 3"],
    depths: Int[np.ndarray, "samples rows columns"],
    n_layers: int,
    titles: Sequence[str],
) -> Image.Image:
    """A row a sample under its title, a panel a layer at which tokens fall away; what has gone by then is dark.

    `depths`: how many layers each patch enters, the first so many.
    """
    stays = [depths > layer for layer in range(n_layers)]
    layers = telling_layers(np.array([kept.sum() for kept in stays]))
    height = max(1, round(PANEL * pictures.shape[1] / pictures.shape[2]))
    right, down = PANEL + GAP, 2 * LINE + height + GAP
    sheet = Image.new("RGB", (GAP + right * len(layers), GAP + down * len(pictures)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        top, panel = GAP + down * row, np.asarray(Image.fromarray(picture).resize((PANEL, height)))
        pen.text((GAP, top), title, fill="black")
        for column, layer in enumerate(layers):
            kept, left = stays[layer][row], GAP + right * column
            pen.text((left, top + LINE), f"layer {layer}: {kept.sum()} of {kept.size}", fill="black")
            sheet.paste(Image.fromarray(dimmed(panel, kept)), (left, top + 2 * LINE))
    return sheet


def telling_layers(counts: Int[np.ndarray, "layers"]) -> list[int]:
    """The first layer and those that fewer tokens enter than the one before; some of them where they are many."""
    falls = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist()]
    spread = np.linspace(0, len(falls) - 1, min(len(falls), MOST_LAYERS)).round().astype(int)
    return [falls[i] for i in spread]


def dimmed(
    picture: UInt8[np.ndarray, "height width 3"], kept: Bool[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, dark where patches are not kept."""
    places = [np.arange(n) * cells // n for n, cells in zip(picture.shape[:2], kept.shape, strict=True)]
    light = np.where(kept[np.ix_(*places)], 1.0, DARK)[..., None]
    return (picture * light).astype(np.uint8)
