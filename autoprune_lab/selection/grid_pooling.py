"""Grid pooling: neighbours in the picture averaged into one token, the baseline that looks at nothing."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Groups, make_all
from autoprune_lab.selection.recovery import Survivors, best, on_host

Each = Int[np.ndarray, "n"]


@dataclass(frozen=True)
class GridPooling:
    """Average the visual tokens over the cells of a coarser grid, exactly as many cells as tokens are allowed.

    A picture of H x W tokens that is allowed q of them is cut into about sqrt(q H / W) bands of rows, and each band
    into equally many cells, or one more where q asks for it: 144 of 24 x 24 are means of 2 x 2, 64 are of 3 x 3, and a
    number that is no grid is met all the same; no two cells overlap. Pictures and frames share what is allowed in
    proportion to their tokens; one whose share is none is forgotten. Tokens that fill no rectangle (newlines, or what
    an earlier cut left) are pooled as one row, in their order. A mean takes the place of its cell's first token.
    Scores choose nothing.

    Source: the pooling baseline of arXiv 2502.11501, which averages 2 x 2 and 3 x 3 tokens.
    Differs: nothing at 144 and 64 of 576; it has no other number.
    """

    def split(self, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
        """All that is allowed are means, unless nothing is dropped."""
        return make_all(allowed, present)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """Make `merged` means of all tokens of a sample; where it is 0, keep the `kept` best scored ones."""
        keep, n_cells = best(evidence, scores, kept), int(on_host(merged).max())
        if not n_cells:
            return Survivors(keep)
        number = torch.arange(n_cells, device=keep.device)
        member = _cells(evidence, on_host(merged))[:, None] == number[:, None]
        filled = number < merged[:, None]
        points = visual(evidence)
        tokens = member.float() @ points / member.sum(-1, keepdim=True).clamp(min=1)
        index = evidence.index[:, None].masked_fill(~member, torch.iinfo(evidence.index.dtype).max)
        return Groups(index.argmin(-1), filled, tokens).among(evidence, keep, in_place=True)


def _cells(evidence: Evidence, allowed: Counts) -> Int[Tensor, "batch vision"]:
    """The cell of each token, 0 .. allowed-1 in each sample; -1 where it has none. Made on the host."""
    places, present = evidence.host_grid, evidence.counts
    real = np.arange(places.shape[1]) < present[:, None]
    sample = np.nonzero(real)[0]
    picture, t, row, column = places[real].T
    kinds = np.stack([sample, picture, t, row < 0], axis=-1)
    names, grid = np.unique(kinds, axis=0, return_inverse=True)  # in order: by sample, then as they come
    grid = grid.reshape(-1)
    owner, size = names[:, 0], np.bincount(grid, minlength=len(names))
    quota = _shares(owner, size, present, allowed)
    rows, columns = (_extent(place, grid, len(names)) for place in (row, column))
    is_grid = (rows.size * columns.size == size) & (names[:, 3] == 0)
    order = np.lexsort([evidence.host_index[real], grid])
    in_row = np.empty_like(order)
    in_row[order] = np.arange(len(order)) - (size.cumsum() - size)[grid[order]]
    height, width = np.where(is_grid, rows.size, 1), np.where(is_grid, columns.size, size)
    r = np.where(is_grid[grid], row - rows.first[grid], 0)
    c = np.where(is_grid[grid], column - columns.first[grid], in_row)
    cell = _cell(r, c, height[grid], width[grid], quota[grid])
    before = quota.cumsum() - quota
    first = before - before[np.searchsorted(owner, owner)]  # of the sample's own cells
    cells = np.full(real.shape, -1)
    cells[real] = np.where(quota[grid] > 0, first[grid] + cell, -1)
    return upload(torch.from_numpy(cells), evidence.vision_mask.device)


def _cell(row: Each, column: Each, height: Each, width: Each, quota: Each) -> Each:
    """The cell, 0 .. quota-1, of a token of a grid of `height` x `width`; quota <= height * width."""
    wanted = (np.sqrt(quota * height / width) + 0.5).astype(int)
    least = (quota + width - 1) // width
    bands = np.clip(np.minimum(np.maximum(wanted, least), np.minimum(height, quota)), 1, None)
    base, extra = quota // bands, quota % bands  # `extra` bands, evenly among the others, have one cell more
    band = ((row + 1) * bands - 1) // height
    cells = base + (band + 1) * extra // bands - band * extra // bands
    of_band: Each = band * base + band * extra // bands + ((column + 1) * cells - 1) // width
    return of_band


def _shares(owner: Each, size: Each, present: Counts, allowed: Counts) -> Each:
    """What each sample is allowed, in proportion to the tokens of its grids; the largest remainders are rounded up."""
    share, rest = np.divmod(size * allowed[owner], present[owner])
    left = allowed - np.bincount(owner, share, minlength=len(allowed)).astype(int)
    order = np.lexsort([-rest, owner])  # stable
    rank = np.empty_like(order)
    rank[order] = np.arange(len(owner))
    more: Each = share + (rank - np.searchsorted(owner, owner) < left[owner])
    return more


class _Extent(NamedTuple):
    """Of each grid, the first row (or column) that it has a token in, and how many there are from there to the last."""

    first: Each
    size: Each


def _extent(place: Each, grid: Each, n_grids: int) -> _Extent:
    first, last = np.full(n_grids, place.max(initial=-1)), np.full(n_grids, -1)
    np.minimum.at(first, grid, place)
    np.maximum.at(last, grid, place)
    return _Extent(first, last - first + 1)
