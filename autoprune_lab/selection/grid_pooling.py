"""Grid pooling: neighbours in the picture averaged into one token, the baseline that looks at nothing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Counts
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.groups import Groups, make_all
from autoprune_lab.selection.per_view import rank_within
from autoprune_lab.selection.recovery import Survivors, best, on_host


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
        member = _cells(evidence, merged)[:, None] == number[:, None]
        filled = number < merged[:, None]
        points = visual(evidence)
        tokens = member.float() @ points / member.sum(-1, keepdim=True).clamp(min=1)
        index = evidence.index[:, None].masked_fill(~member, torch.iinfo(evidence.index.dtype).max)
        return Groups(index.argmin(-1), filled, tokens).among(evidence, keep, in_place=True)


def _cells(evidence: Evidence, allowed: Int[Tensor, "batch"]) -> Int[Tensor, "batch vision"]:
    """The cell of each token, 0 .. allowed-1 in each sample; -1 where it has none."""
    real, (picture, t, row, column) = evidence.vision_mask, evidence.grid.unbind(-1)
    sample = torch.arange(len(real), device=real.device)[:, None].expand_as(real)
    kinds = torch.stack([sample, picture, t, (row < 0).long()], dim=-1)[real]
    names, grid = torch.unique(kinds, dim=0, return_inverse=True)  # in order: by sample, then as they come
    owner, size = names[:, 0].contiguous(), grid.bincount(minlength=len(names))
    quota = _shares(owner, size, real.sum(1), allowed)
    rows, columns = (_extent(place[real], grid, len(names)) for place in (row, column))
    is_grid = (rows.size * columns.size == size) & (names[:, 3] == 0)
    in_row = rank_within(-evidence.index, torch.full_like(row, -1).masked_scatter(real, grid))[real]
    height, width = torch.where(is_grid, rows.size, 1), torch.where(is_grid, columns.size, size)
    r = torch.where(is_grid[grid], row[real] - rows.first[grid], 0)
    c = torch.where(is_grid[grid], column[real] - columns.first[grid], in_row)
    cell = _cell(r, c, height[grid], width[grid], quota[grid])
    before = quota.cumsum(0) - quota
    first = before - before[torch.searchsorted(owner, owner)]  # of the sample's own cells
    return torch.full_like(row, -1).masked_scatter(real, torch.where(quota[grid] > 0, first[grid] + cell, -1))


def _cell(
    row: Int[Tensor, "n"],
    column: Int[Tensor, "n"],
    height: Int[Tensor, "n"],
    width: Int[Tensor, "n"],
    quota: Int[Tensor, "n"],
) -> Int[Tensor, "n"]:
    """The cell, 0 .. quota-1, of a token of a grid of `height` x `width`; quota <= height * width."""
    wanted = ((quota * height).double() / width).sqrt().add(0.5).long()
    least = (quota + width - 1) // width
    bands = wanted.maximum(least).minimum(height.minimum(quota)).clamp(min=1)
    base, extra = quota // bands, quota % bands  # `extra` bands, evenly among the others, have one cell more
    band = ((row + 1) * bands - 1) // height
    cells = base + (band + 1) * extra // bands - band * extra // bands
    return band * base + band * extra // bands + ((column + 1) * cells - 1) // width


def _shares(
    owner: Int[Tensor, "grids"],
    size: Int[Tensor, "grids"],
    present: Int[Tensor, "batch"],
    allowed: Int[Tensor, "batch"],
) -> Int[Tensor, "grids"]:
    """What each sample is allowed, in proportion to the tokens of its grids; the largest remainders are rounded up."""
    product, whole = size * allowed[owner], present[owner]
    share, rest = product // whole, product % whole
    left = allowed.scatter_add(0, owner, -share)
    order = rest.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]
    place = torch.arange(len(owner), device=owner.device)
    rank = torch.empty_like(order).scatter(0, order, place) - torch.searchsorted(owner, owner)
    return share + (rank < left[owner])


@dataclass(frozen=True, eq=False)
class _Extent:
    """Of each grid, the first row (or column) that it has a token in, and how many there are from there to the last."""

    first: Int[Tensor, "grids"]
    size: Int[Tensor, "grids"]


def _extent(place: Int[Tensor, "n"], grid: Int[Tensor, "n"], n_grids: int) -> _Extent:
    first, last = (
        torch.zeros(n_grids, dtype=place.dtype, device=place.device).scatter_reduce(
            0, grid, place, how, include_self=False
        )
        for how in ("amin", "amax")
    )
    return _Extent(first, last - first + 1)
