"""Videos among the visual tokens, told by their places, and what recoveries that go through their frames share.

Tiles of an image that are put together count through `t` as frames do, but rows of them end in tokens without a place:
overview and tiles are then two pictures here, never frames of a video. A token without a place is in no picture.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.selection.recovery import best, on_host


class Frames(NamedTuple):
    """The number of each token's picture within its sample, and of its frame within the picture; -1: it has none."""

    picture: Int[Tensor, "batch vision"]
    frame: Int[Tensor, "batch vision"]


class Picture(NamedTuple):
    """One sample's video with all its frames, or an image, a video of one frame; `slots` frame by frame, by place."""

    sample: int
    slots: Int[Tensor, "frames places"]


def frames(grid: Int[Tensor, "batch vision 4"], extents: Sequence[int]) -> Frames:
    """Which picture and which frame every visual token is in; see `Evidence.grid` and `Evidence.extents`."""
    number, t, h = grid[..., 0].clamp(min=0), grid[..., 1], grid[..., 2]
    n_pictures, n_frames = extents[:2]
    row_end = number.new_zeros(len(number), n_pictures)
    row_end = row_end.scatter_add(1, number, ((t >= 0) & (h < 0)).long())
    tiled, placed = row_end.gather(1, number) > 0, (t >= 0) & (h >= 0)
    picture = number * n_frames + torch.where(tiled, t, 0)
    return Frames(picture.masked_fill(~placed, -1), t.masked_fill(tiled, 0).masked_fill(~placed, -1))


def pictures(evidence: Evidence, words: str) -> list[Picture]:
    """Every picture of the batch, sample by sample.

    Raises ValueError, in the name of `words`, where an earlier cut left a video's frames with unlike places.
    """
    grid, device = torch.from_numpy(evidence.host_grid), evidence.vision_mask.device
    picture, frame = frames(grid, evidence.extents)
    found = []
    for sample, slots in one_by_one(picture):
        h, w = grid[sample, slots, 2:].unbind(-1)
        place = (frame[sample, slots] * (h.max() + 1) + h) * (w.max() + 1) + w
        slots = slots[place.argsort()]
        n_frames = len(set(frame[sample, slots].tolist()))
        found.append(Picture(sample, upload(_whole(grid[sample], slots, n_frames, words), device)))
    return found


def one_by_one(picture: Int[Tensor, "batch vision"]) -> Iterator[tuple[int, Int[Tensor, "tokens"]]]:
    """The sample and the slots of each picture, in their order; `picture`, on the host: see `Frames`."""
    for sample, numbers in enumerate(picture):
        for number in sorted(set(numbers.tolist()) - {-1}):
            yield sample, (numbers == number).nonzero().flatten()


def by_score(evidence: Evidence, scores: Float[Tensor, "batch vision"]) -> Float[Tensor, "batch vision"]:
    """The place of each token's score among its sample's, in (0, 1]: 1 is the best; ties go to the lower slot."""
    order = scores.masked_fill(~evidence.vision_mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return 1 - order.argsort(dim=1).double() / max(1, order.shape[1])


def portions(
    evidence: Evidence,
    rank: Float[Tensor, "batch vision"],
    found: list[Picture],
    kept: Int[Tensor, "batch"],
    merged: Int[Tensor, "batch"],
) -> tuple[Bool[Tensor, "batch vision"], list[int]]:
    """What stays of the tokens without a place, and how many tokens each of the `found` pictures keeps.

    Tokens without a place come first, by `rank`; pictures have parts of the others in proportion to their tokens.
    """
    n_kept = on_host(kept) + on_host(merged)
    n_loose = ((evidence.host_grid[..., 0] >= 0) & (evidence.host_grid[..., 2] < 0)).sum(1).tolist()
    loose = evidence.vision_mask & (evidence.grid[..., 2] < 0)
    keep = best(evidence, torch.where(loose, 2 + rank, rank), (kept + merged).clamp(max=loose.sum(1)))
    counts = [0] * len(found)
    for sample in range(len(keep)):
        own = [i for i, picture in enumerate(found) if picture.sample == sample]
        parts = _shared(max(0, int(n_kept[sample]) - n_loose[sample]), [found[i].slots.numel() for i in own])
        for i, part in zip(own, parts, strict=True):
            counts[i] = part
    return keep, counts


def _shared(total: int, sizes: list[int]) -> list[int]:
    """`total` <= sum of `sizes` in whole parts in proportion to them; what rounding leaves goes by largest rest."""
    parts = [total * size // sum(sizes) for size in sizes]
    by_rest = sorted(range(len(sizes)), key=lambda i: (-(total * sizes[i] % sum(sizes)), i))
    for i in by_rest[: total - sum(parts)]:
        parts[i] += 1
    return parts


def spare(rank: Float[Tensor, "frames places"], stays: Bool[Tensor, "frames places"], n: int) -> Int[Tensor, "n"]:
    """The `n` best of one picture that do not stay yet, numbered frame by frame."""
    return rank.masked_fill(stays, -1).flatten().argsort(descending=True, stable=True)[:n]


def on_host_each(flags: Sequence[Bool[Tensor, "..."]]) -> list[np.ndarray]:
    """All of them on the host after one wait; none where all are empty."""
    joined = torch.cat([one.flatten() for one in flags]) if flags else torch.empty(0)
    held = joined.cpu().numpy() if joined.numel() else np.empty(0, dtype=bool)
    ends = np.cumsum([one.numel() for one in flags])[:-1]
    return [part.reshape(one.shape) for part, one in zip(np.split(held, ends), flags, strict=False)]


def members_of(nearest: Int[Tensor, "points"], n_groups: int) -> Float[Tensor, "groups points"]:
    """1 where a point is in a group."""
    return (torch.arange(n_groups, device=nearest.device)[:, None] == nearest).float()


def _whole(
    grid: Int[Tensor, "vision 4"], slots: Int[Tensor, "tokens"], n_frames: int, words: str
) -> Int[Tensor, "frames places"]:
    table = slots.view(n_frames, -1) if len(slots) % n_frames == 0 else None
    if table is not None:
        places = grid[table, 2:]
        if bool((places == places[:1]).all()):
            return table
    raise ValueError(
        f"{words} compares whole frames, but an earlier cut left the {n_frames} frames of a video with {len(slots)} "
        "tokens at unlike places: let nothing be cut before it (one cut, max_cuts=1, and no opening)"
    )
