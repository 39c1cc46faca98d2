"""Which patches of a picture enter which layers: the figure of `Trace.plot`."""

from collections.abc import Sequence
from math import isqrt

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from autoprune_lab.fronts.shown import ShownFigure
from autoprune_lab.trace.contact_sheet import telling_layers
from autoprune_lab.trace.sample import SampleTrace

Picture = Image.Image | np.ndarray

MOST_FRAMES = 8
WIDTH = 2.1  # inches of one panel
SHADE = 0.75  # opacity over a dropped patch


def plot_patches(
    record: SampleTrace,
    images: Picture | Sequence[Picture],
    layers: Sequence[int] | None = None,
    grid: tuple[int, int] | None = None,
) -> Figure:
    """See `Trace.plot`."""
    pictures = [_pixels(image) for image in ([images] if isinstance(images, Picture) else images)]
    layers = telling_layers(record.counts) if layers is None else layers
    survivors = [surviving_patches(record, layer, len(pictures), grid) for layer in layers]
    heights = [WIDTH * len(pixels) / pixels.shape[1] for pixels in pictures]
    size = WIDTH * len(layers), sum(heights) + 0.35 * len(heights)
    figure = ShownFigure(figsize=size, layout="compressed")
    panels = figure.subplots(len(pictures), len(layers), squeeze=False, height_ratios=heights)
    for column, (layer, kept) in enumerate(zip(layers, survivors, strict=True)):
        for row, pixels in enumerate(pictures):
            _draw(panels[row, column], pixels, kept[row])
            panels[row, column].set_title(f"layer {layer}: {kept[row].sum()} of {kept[row].size}", fontsize=10)
    return figure


def plot_frames(
    record: SampleTrace,
    frames: Picture | Sequence[Picture],
    times: Sequence[float | int],
    layers: Sequence[int] | None = None,
    grid: tuple[int, int] | None = None,
) -> Figure:
    """See `Trace.plot`."""
    if isinstance(frames, Image.Image) or len(frames) != len(times):
        n = 1 if isinstance(frames, Image.Image) else len(frames)
        raise ValueError(f"{n} frames and {len(times)} times: give the frames of one video and the seconds of each")
    layers = telling_layers(record.counts) if layers is None else layers
    survivors = [_surviving_steps(record, layer, len(frames), grid) for layer in layers]
    n_steps = len(survivors[0])
    steps = np.linspace(0, n_steps - 1, min(n_steps, MOST_FRAMES)).round().astype(int).tolist()
    first = {step: step * (len(frames) // n_steps) for step in steps}
    pixels = {step: _pixels(frames[place]) for step, place in first.items()}
    height, width = pixels[0].shape[:2]
    size = WIDTH * len(steps), (WIDTH * height / width + 0.35) * len(layers)
    figure = ShownFigure(figsize=size, layout="compressed")
    panels = figure.subplots(len(layers), len(steps), squeeze=False)
    for row, layer, kept in zip(panels, layers, survivors, strict=True):
        for axes, step in zip(row, steps, strict=True):
            _draw(axes, pixels[step], kept[step])
            told = f"{kept[step].sum()} of {kept[step].size}"
            axes.set_title(f"layer {layer}, {times[first[step]]:.1f} s: {told}", fontsize=8)
    return figure


def surviving_patches(
    record: SampleTrace, layer: int, n_images: int, grid: tuple[int, int] | None = None
) -> Bool[np.ndarray, "images rows columns"]:
    """True where a patch enters `layer`; ValueError where the patches are unknown or do not fill the grid."""
    if record.kept is None:
        raise ValueError("the trace holds no kept indices: attach with keep_indices=True")
    n_vision = record.geometry.n_vision + record.ends_in_picture
    side = isqrt(n_vision // max(n_images, 1))
    rows, columns = grid or (side, side)
    if n_vision != n_images * rows * columns or not n_vision:
        raise ValueError(
            f"{n_vision} visual tokens are not {n_images} images of {rows} x {columns} patches: "
            "give all images of the sample, and the patches of one as grid=(rows, columns)"
        )
    kept = np.zeros(n_vision, dtype=bool)
    kept[record.kept[layer]] = True
    kept[record.geometry.n_vision :] = True  # a picture's token that ends the prompt always stays
    return kept.reshape(n_images, rows, columns)


def _surviving_steps(
    record: SampleTrace, layer: int, n_frames: int, grid: tuple[int, int] | None
) -> Bool[np.ndarray, "steps rows columns"]:
    """True where a patch of a step in time enters `layer`; a step is one frame, or as many as the model merges."""
    if record.kept is None:
        raise ValueError("the trace holds no kept indices: attach with keep_indices=True")
    n_vision = record.geometry.n_vision + record.ends_in_picture
    rows, columns = grid or (isqrt(n_vision // max(n_frames, 1)),) * 2
    n_steps, n_more = divmod(n_vision, max(rows * columns, 1))
    if not n_vision or not n_steps or n_more > 1 or n_frames % n_steps or (grid is None and n_steps != n_frames):
        raise ValueError(
            f"{n_vision} visual tokens are not {n_frames} frames, or equal groups of them, of {rows} x {columns} "
            "patches: give all frames of the video, and the patches of one as grid=(rows, columns)"
        )
    kept = np.zeros(n_vision, dtype=bool)
    kept[record.kept[layer]] = True
    kept[record.geometry.n_vision :] = True
    return kept[: n_vision - n_more].reshape(n_steps, rows, columns)


def _pixels(image: Picture) -> np.ndarray:
    return np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)


def _draw(axes: Axes, pixels: np.ndarray, kept: Bool[np.ndarray, "rows columns"]) -> None:
    """The picture under a shade that is clear where patches are kept."""
    height, width = pixels.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(pixels, cmap="gray", extent=extent)
    axes.imshow(np.zeros(kept.shape), cmap="gray", extent=extent, alpha=np.where(kept, 0.0, SHADE))
    axes.set_yticks(np.linspace(0, height, kept.shape[0] + 1), labels=[])
    axes.set_xticks(np.linspace(0, width, kept.shape[1] + 1), labels=[])
    axes.tick_params(length=0)
    axes.grid(color="white", linewidth=0.3, alpha=0.4)
    axes.spines[:].set_visible(False)
