"""Through how many layers each patch of a few pictures stays, and the pictures as the model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.attach import attached, needs_pixels
from autoprune_lab.decoder.eager import plain
from autoprune_lab.decoder.places import UnknownPlacesError, places, told
from autoprune_lab.evaluation.prompts import Batch, batch_of
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.base import Sample

MOST = 4  # samples


@dataclass(frozen=True, eq=False)
class ShownSamples:
    """Samples of one picture each; `grid` is rows and columns of patches, `cells` where in it each token sits."""

    samples: tuple[Sample, ...]
    pictures: UInt8[np.ndarray, "samples height width 3"]
    grid: tuple[int, int]
    cells: Int[np.ndarray, "samples tokens"]
    batch: Batch


def of_each_kind(samples: Sequence[Sample]) -> list[Sample]:
    """The first sample of each kind that has one picture, at most MOST kinds, spread over all."""
    single = [sample for sample in samples if len(sample.images) == 1 and not sample.videos]
    firsts = list({sample.kind: sample for sample in reversed(single)}.values())[::-1]
    places = np.linspace(0, len(firsts) - 1, min(len(firsts), MOST)).round().astype(int)
    return [firsts[place] for place in places]


def show(vlm: VLM, samples: Sequence[Sample]) -> ShownSamples:
    """The samples as the model sees them.

    Raises UnknownPlacesError where it is not known which patch a token is, where a sample has not one picture, and
    where the model is not given whole pictures of one size.
    """
    name = type(vlm.model).__name__
    if not samples or any(len(sample.images) != 1 or sample.videos for sample in samples):
        raise UnknownPlacesError("patches are painted of samples with one picture each")
    batch = batch_of(vlm, samples)
    given = batch.show()
    pixels, how = given.get("pixel_values"), getattr(vlm.processor, "image_processor", None)
    mean, std = getattr(how, "image_mean", None), getattr(how, "image_std", None)
    if pixels is None or pixels.shape[:2] != (len(samples), 3) or pixels.ndim != 4 or mean is None or std is None:
        raise UnknownPlacesError(f"patches are painted on whole pictures of one size, which {name} is not given")
    anatomy = Anatomy.of(plain(vlm.model))
    n_tokens = sum(int((given["input_ids"] == token).sum()) for token in anatomy.visual_ids)
    place = places(anatomy, "image", told(given), n_tokens).place().cpu().numpy().reshape(len(samples), -1, 4)
    if (place[..., 1] != 0).any() or (place[..., 2:] < 0).any():
        raise UnknownPlacesError(f"some tokens of {name} are no patch of the picture")
    rows, columns = (int(place[..., axis].max()) + 1 for axis in (2, 3))
    scale, shift = (torch.tensor(values).view(1, 3, 1, 1) for values in (std, mean))
    seen = ((pixels.float().cpu() * scale + shift).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return ShownSamples(tuple(samples), seen, (rows, columns), place[..., 2] * columns + place[..., 3], batch)


def depths(vlm: VLM, shown: ShownSamples, pruner: Pruner) -> Int[np.ndarray, "samples patches"]:
    """Of each patch of the grid, row by row, the number of layers that its token enters: the first so many.

    0 where a patch has no token. Answers nothing: only the prompts are read.
    """
    arguments: dict[str, Any] = shown.batch.arguments(needs_pixels(pruner, vlm.model))
    with torch.inference_mode(), attached(pruner, vlm.model, keep_indices=True, warn=False) as trace:
        vlm.model(**arguments, logits_to_keep=1)
    found = np.zeros((len(shown.samples), shown.grid[0] * shown.grid[1]), dtype=np.int64)
    for row, cells, record in zip(found, shown.cells, trace.samples, strict=True):
        assert record.kept is not None
        row[cells] = np.bincount(np.concatenate(record.kept), minlength=len(cells))
        row[cells[record.geometry.n_vision :]] = record.geometry.n_layers  # one that ends the prompt always stays
    return found
