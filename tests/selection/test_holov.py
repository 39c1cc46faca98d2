"""HoloV against the official code and in plain loops."""

import math

import numpy as np
import pytest
import torch
from given_tensors import counts_of, given
from goldens import goldens

from autoprune_lab.selection.holov import Holov


@pytest.mark.parametrize("golden", goldens("holov"), ids=str)
def test_is_the_official_code_s(golden):
    tokens, attention = golden.inputs["tokens"], golden.inputs["attention"].mean(0)[None]
    recovery, seen, keep = Holov(golden.params["crops"]), given(len(tokens), hidden=tokens), golden.params["keep"]
    worth = recovery.crop_scores(seen, attention)
    share = recovery.allocated(worth, counts_of(len(tokens)), counts_of(keep))
    stay, hidden, index = recovery(seen, attention, counts_of(0), counts_of(keep))
    states, places = hidden[0, stay[0]], index[0, stay[0]]
    zero = ~states.any(-1)
    golden.check(crop_score=worth[0], allocated=share[0], kept=torch.where(zero, -1, places), zero_rows=int(zero.sum()))
    assert torch.equal(states[~zero], tokens[places[~zero]])


def holov(hidden, attention, n_crops, total):
    """Tokens crop by crop, the best first, in plain loops; None for a zero vector."""
    hidden, n = hidden.double(), len(attention)
    n_crops = min(n_crops, n)
    lengths = [n // n_crops + (i < n % n_crops) for i in range(n_crops)]
    crops = [list(range(sum(lengths[:i]), sum(lengths[: i + 1]))) for i in range(n_crops)]
    worth = []
    for crop in crops:
        score = [1000 * attention[i] for i in crop]
        if len(crop) == 1:
            worth.append(attention[crop[0]])
            continue
        cosine = [[float(torch.cosine_similarity(hidden[i], hidden[j], 0)) * (i != j) for j in crop] for i in crop]
        means = [sum(row) / (len(crop) - 1) for row in cosine]
        spread = [sum((c - m) ** 2 for c in row) / (len(crop) - 1) for row, m in zip(cosine, means, strict=True)]
        factor = 0.09 * np.mean(score) / (np.mean(spread) + 1e-6)
        worth.append(np.mean([a + factor * v for a, v in zip(score, spread, strict=True)]))
    share = [total * w / (sum(worth) + 1e-6) for w in worth]
    given_out = [math.floor(part) for part in share]
    for i in sorted(range(n_crops), key=lambda i: -share[i])[: total - sum(given_out)]:
        given_out[i] += 1
    kept = []
    for crop, m in zip(crops, given_out, strict=True):
        kept += sorted(crop, key=lambda i: -attention[i])[:m] if m < len(crop) else crop
    return kept + [None] * (total - len(kept))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("crops", "allowed"), [(4, (9, 4, 3, 1, 0)), (16, (11, 8, 3, 0, 0)), (1, (5, 1, 2, 1, 0))])
def test_equals_plain_loops(crops, allowed, in_place):
    counts, recovery = [30, 11, 4, 1, 0], Holov(crops, in_place)
    seen = given(30, counts)
    kept, merged = map(torch.from_numpy, recovery.split(np.array(allowed), np.array(counts)))
    attention = seen.cls_attention**3  # peaked, so that crops run out
    stay, hidden, index = recovery(seen, attention, kept, merged)
    index = seen.index if index is None else index
    for i, n in enumerate(counts):
        states, places = hidden[i, stay[i]], index[i, stay[i]].tolist()
        if allowed[i] in (0, n):
            assert places == list(range(n))[: allowed[i]]
            continue
        expected = holov(seen.hidden[i, :n], attention[i, :n].tolist(), crops, allowed[i])
        got = [place if state.any() else None for place, state in zip(places, states, strict=True)]
        known = [place for place in got if place is not None]
        assert known == (sorted(known) if in_place else expected[: len(known)])
        assert {*known} == {*expected} - {None}
        assert len(got) == allowed[i] == len({*places})


def test_crops_that_nobody_looks_at_get_equal_shares():
    seen = given(8)
    share = Holov(4).allocated(torch.zeros(1, 4), counts_of(8), counts_of(6))
    assert share.tolist() == [[2, 2, 1, 1]]
    assert Holov(4)(seen, torch.zeros(1, 8), counts_of(0), counts_of(6)).keep.sum() == 6


def test_there_is_a_crop_at_least():
    with pytest.raises(ValueError, match="crops=0"):
        Holov(0)
