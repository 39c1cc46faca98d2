"""Grid pooling: torch's own average pooling where the number is a grid, plain loops elsewhere, and every count met."""

from math import ceil, floor, sqrt

import numpy as np
import pytest
import torch
from given_evidence import given_evidence, grid_of
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from autoprune_lab.plugins.plain_evidence import evidence_of, part_of, random_attention
from autoprune_lab.selection.grid_pooling import GridPooling

NEWLINES = torch.tensor([[1, 0, -1, -1]])


def pooled(evidence, allowed):
    """Each sample's tokens after the plan for `allowed`: index -> hidden state."""
    kept, merged = map(torch.from_numpy, GridPooling().split(np.array(allowed), evidence.counts))
    survivors = GridPooling()(evidence, torch.zeros(evidence.index.shape), kept, merged)
    hidden = evidence.hidden if survivors.hidden is None else survivors.hidden
    assert survivors.index is None
    assert survivors.keep.sum(1).tolist() == list(allowed)
    assert not (survivors.keep & ~evidence.vision_mask).any()
    keys = [index[keep].tolist() for index, keep in zip(evidence.index, survivors.keep, strict=True)]
    return [dict(zip(key, hidden[i, survivors.keep[i]], strict=True)) for i, key in enumerate(keys)]


@pytest.mark.parametrize(("side", "factor"), [(24, 2), (24, 3), (24, 4), (6, 6), (5, 1)])
def test_is_average_pooling_where_the_number_is_a_grid(side, factor):
    n, width = side * side, side // factor
    hidden = torch.randn(1, n, 7, generator=torch.Generator().manual_seed(0))
    evidence = given_evidence(n, grid=grid_of(side, side), hidden=hidden[0])
    (found,) = pooled(evidence, [width**2])
    planes = hidden[0].T.reshape(1, 7, side, side)
    expected = avg_pool2d(planes, factor)[0].flatten(1).T
    torch.testing.assert_close(torch.stack(list(found.values())), expected)
    assert list(found) == [factor * (i // width * side + i % width) for i in range(width**2)]


def cuts(n, parts):
    return [floor(i * n / parts) for i in range(parts + 1)]


def plain(places, allowed):
    """The cells of one sample, as lists of tokens, in plain loops."""
    grids = {}
    for i, (picture, t, h, w) in enumerate(places.tolist()):
        grids.setdefault((picture, t, h < 0), {})[i] = (h, w)
    exact = [len(grid) * allowed / len(places) for grid in grids.values()]
    quotas = [floor(part) for part in exact]
    spare = sorted(range(len(exact)), key=lambda g: quotas[g] - exact[g])[: allowed - sum(quotas)]
    cells = []
    for g, ((_, _, unplaced), grid) in enumerate(grids.items()):
        quota = quotas[g] + (g in spare)
        (top, left), (bottom, right) = (
            tuple(f(column) for column in zip(*grid.values(), strict=True)) for f in (min, max)
        )
        height, width = bottom - top + 1, right - left + 1
        if unplaced or height * width > len(grid):
            grid, height, width, top, left = {i: (0, r) for r, i in enumerate(grid)}, 1, len(grid), 0, 0
        if not quota:
            continue
        bands = min(max(floor(sqrt(quota * height / width) + 0.5), ceil(quota / width)), height, quota)
        rows, ends = cuts(height, bands), cuts(quota, bands)
        for b in range(bands):
            columns = cuts(width, ends[b + 1] - ends[b])
            for c in range(len(columns) - 1):
                cells.append(
                    [
                        i
                        for i, (h, w) in grid.items()
                        if rows[b] <= h - top < rows[b + 1] and columns[c] <= w - left < columns[c + 1]
                    ]
                )
    return cells


def ragged():
    """Two pictures with two newlines behind the second; two frames; the half of a picture; one token; none left."""
    places = [
        torch.cat([grid_of(5, 6), grid_of(3, 3, picture=1), NEWLINES, NEWLINES]),
        torch.cat([grid_of(3, 4, t=0), grid_of(3, 4, t=1)]),
        grid_of(4, 5)[::2],
        grid_of(1, 1),
        grid_of(7, 3),
    ]
    counts = [len(place) for place in places]
    evidence = evidence_of(random_attention(0, 5, 1, 2, max(counts)), counts)
    evidence.source.grid_ = torch.full((5, max(counts), 4), -1)
    for i, place in enumerate(places):
        evidence.source.grid_[i, : len(place)] = place
    evidence.source.hidden_ = evidence.hidden.masked_fill(~evidence.vision_mask[..., None], torch.nan)
    return evidence


@pytest.mark.parametrize(
    "allowed", [[20, 10, 7, 1, 0], [1, 1, 1, 0, 1], [40, 23, 9, 1, 20], [41, 24, 10, 1, 21], [13, 7, 4, 0, 5]]
)
def test_equals_plain_loops_on_a_ragged_batch(allowed):
    evidence = ragged()
    for i, (found, count, n) in enumerate(zip(pooled(evidence, allowed), allowed, evidence.counts, strict=True)):
        if count < n:
            cells = plain(evidence.grid[i, :n], count)
            assert sorted(found) == sorted(min(cell) for cell in cells)
            for cell in cells:
                torch.testing.assert_close(found[min(cell)], evidence.hidden[i, cell].mean(0))
        else:
            assert all(torch.equal(found[j], evidence.hidden[i, j]) for j in range(n))


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_every_number_is_met_and_no_token_is_lost(height, width, data):
    n = height * width
    count = data.draw(st.integers(1, n))
    evidence = given_evidence(n, grid=grid_of(height, width), hidden=torch.eye(n))
    (found,) = pooled(evidence, [count])
    assert all((token > 0).any() for token in found.values())
    assert (torch.stack(list(found.values())) > 0).sum(0).tolist() == [1] * n


def test_what_an_earlier_cut_left_is_pooled_in_its_order():
    whole = evidence_of(random_attention(0, 1, 1, 2, 20))
    whole.source.grid_ = grid_of(4, 5)[None]
    left = part_of(whole, 0, torch.arange(2), torch.tensor([0, 3, 4, 11, 12, 19]))
    (found,) = pooled(left, [3])
    assert list(found) == [0, 4, 12]
    torch.testing.assert_close(found[12], whole.hidden[0, [12, 19]].mean(0))
