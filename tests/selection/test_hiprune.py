"""HiPrune against the official code and in plain loops."""

import numpy as np
import pytest
import torch
from given_tensors import counts_of, given, picked
from goldens import goldens

from autoprune_lab.plugins.plain_evidence import source_of
from autoprune_lab.selection.hiprune import Hiprune, ReceivedAttention


def seen_by_layer(n, layers, grid, counts=None):
    """Evidence whose tower layers received that."""
    evidence = given(n, counts, grid=grid)
    source_of(evidence).tower_received = lambda layer: layers[layer]
    return evidence


def square(n, width):
    place = torch.arange(n)
    return torch.stack([0 * place, 0 * place, place // width, place % width], -1)


@pytest.mark.parametrize("golden", goldens("hiprune"), ids=str)
def test_is_the_official_code_s(golden):
    maps = {0.35: golden.inputs["shallow"], None: golden.inputs["deep"]}
    layers = {layer: attention.mean((0, 1))[None, 1:] for layer, attention in maps.items()}
    n, allowed = layers[None].shape[1], golden.params["keep"]
    seen, recovery = seen_by_layer(n, layers, square(n, golden.params["width"])), Hiprune(golden.params["alpha"])
    scores = ReceivedAttention()(seen)
    kept, merged = (part.item() for part in recovery.split(np.array([allowed]), np.array([n])))

    def stay(others):
        return recovery(seen, scores, counts_of(kept), counts_of(others)).keep[0].nonzero().flatten().tolist()

    first, whole = stay(len(golden.outputs["anchors_and_buffers"]) - kept), stay(merged)
    registers = sorted({*whole} - {*first}, key=lambda token: -float(layers[None][0, token]))
    golden.check(
        shallow_score=scores[0], deep_score=layers[None][0], anchors=picked(scores, kept), anchors_and_buffers=first,
        registers=registers, kept=whole,
    )  # fmt: skip


def hiprune(shallow, deep, boards, alpha, allowed):
    """The tokens that stay, in plain loops; `boards`: the tokens of each picture by row."""
    anchors = sorted(range(len(shallow)), key=lambda token: -shallow[token])[: round(allowed * alpha / 5)]
    near = set()
    for board in boards:
        flat, width = [token for row in board for token in row], len(board[0])
        for place, token in enumerate(flat):
            if token in anchors:
                near |= {flat[min(max(place + step, 0), len(flat) - 1)] for step in (-1, 1, -width, width)}
    by_deep = sorted(range(len(deep)), key=lambda token: -deep[token])
    first = [*anchors, *(t for t in by_deep if t in near - {*anchors})]
    return sorted([*first, *(t for t in by_deep if t not in first)][:allowed])


BOARDS = [  # two pictures and a newline; a high one and a step in time
    [[[0, 1, 2], [3, 4, 5]], [[7, 8], [9, 10], [11, 12], [13, 14]]],
    [[[0], [1], [2]], [[3, 4], [5, 6]]],
    [[[0]]],
    [],
]
GRIDS = [
    [(p, 0, h, w) for p, b in enumerate(boards) for h, row in enumerate(b) for w in range(len(row))]
    for boards in BOARDS
]
GRIDS[0].insert(6, (0, 0, -1, -1))
GRIDS[1][3:] = [(0, 1, *place[2:]) for place in GRIDS[1][3:]]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("allowed", [(9, 5, 1, 0), (14, 3, 0, 0), (3, 7, 1, 0)])
def test_equals_plain_loops(alpha, allowed):
    counts, recovery = [len(grid) for grid in GRIDS], Hiprune(alpha, layer=7)
    grid = torch.full((4, 15, 4), -1)
    for i, places in enumerate(GRIDS):
        grid[i, : counts[i]] = torch.tensor(places).view(-1, 4)
    draw = torch.Generator().manual_seed(int(10 * alpha) + sum(allowed))
    shallow, deep = (torch.rand(4, 15, generator=draw) for _ in range(2))
    seen = seen_by_layer(15, {2: shallow, 7: deep}, grid, counts)
    kept, merged = map(torch.from_numpy, recovery.split(np.array(allowed), np.array(counts)))
    survivors = recovery(seen, ReceivedAttention(2)(seen), kept, merged)
    assert survivors.hidden is None
    for i, n in enumerate(counts):
        expected = hiprune(shallow[i, :n].tolist(), deep[i, :n].tolist(), BOARDS[i], alpha, allowed[i])
        assert survivors.keep[i].nonzero().flatten().tolist() == (expected if allowed[i] < n else list(range(n)))


def test_reads_two_layers_of_the_tower():
    assert (*ReceivedAttention(8).tower_layers, *Hiprune().tower_layers) == (8, None)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_a_part_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha={alpha}"):
        Hiprune(alpha)
