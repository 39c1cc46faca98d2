"""FEATHER: the official code's numbers at both cuts, plain loops, and the edges."""

import math
from dataclasses import replace

import pytest
import torch
from given_evidence import given_evidence, grid_of
from goldens import goldens

from autoprune_lab.plugins.plain_evidence import evidence_of, part_of, random_attention
from autoprune_lab.selection.feather import feather
from autoprune_lab.selection.recovery import top_n


def cut(evidence, scores, count):
    return top_n(scores, torch.tensor([count]))[0].nonzero().flatten()


def unturned(query, keys, **given):
    """What is asked for must be asked before the rotary embedding."""
    queries, keys_ = {("text", False): query[:, :, None]}, {("vision", False): keys}
    return given_evidence(
        keys.shape[2],
        queries=lambda of, rotary: queries[of, rotary],
        keys=lambda of, rotary: keys_[of, rotary],
        **given,
    )


@pytest.mark.parametrize("golden", goldens("feather"), ids=str)
def test_equals_the_official_code(golden):
    query1, keys1, query2, keys2 = (golden.inputs[name][None] for name in ("query1", "keys1", "query2", "keys2"))
    n, stride, outputs = keys1.shape[2], golden.params["stride"], golden.outputs
    side = math.isqrt(n)
    first = unturned(query1, keys1, grid=grid_of(side, side))
    kept1 = cut(first, feather(first, stride), len(outputs["kept1"]))
    second = unturned(query2, keys2[:, :, kept1])
    score2 = feather(second, None)
    kept2 = kept1[cut(second, score2, len(outputs["kept2"]))]
    golden.check(score1=feather(first, None)[0], kept1=kept1, score2=score2[0], kept2=kept2)


def plain(evidence, sample, stride):
    """One sample in plain loops."""
    n, row = int(evidence.vision_mask[sample].sum()), int(evidence.text_mask[sample].sum()) - 1
    queries, keys = evidence.queries("text", False)[sample, :, row], evidence.keys("vision", False)[sample]
    scores = [0.0] * n
    for head, query in enumerate(queries):
        key = keys[head // (len(queries) // len(keys))]
        powers = [math.exp(float(query @ key[i]) / math.sqrt(len(query))) for i in range(n)]
        scores = [old + power / sum(powers) / len(queries) for old, power in zip(scores, powers, strict=True)]
    if stride:
        for i, (_, _, h, w) in enumerate(evidence.grid[sample, :n].tolist()):
            scores[i] += h >= 0 and h % stride == 0 and w % stride == 0
    return scores


@pytest.mark.parametrize("stride", [None, 1, 2, 3])
def test_equals_plain_loops_on_a_ragged_batch(stride):
    evidence = evidence_of(random_attention(0, 4, 2, 5, 30), [30, 21, 7, 1], [5, 3, 1, 2])
    grid = torch.cat([grid_of(3, 5), grid_of(2, 7, picture=1)])
    grid = torch.cat([grid, torch.tensor([[1, 0, -1, -1]])]).expand(4, -1, -1)  # a newline at the end
    evidence.source.grid_ = grid.masked_fill(~evidence.vision_mask[..., None], -1)
    evidence.source.queries = lambda of, rotary: evidence.source.keys(of, rotary).repeat_interleave(2, 1) * 3
    scores = feather(evidence, stride)
    for i, n in enumerate(evidence.counts):
        torch.testing.assert_close(scores[i, :n], torch.tensor(plain(evidence, i, stride)).double())


def test_the_lattice_stays_where_it_was_after_a_cut():
    whole = evidence_of(random_attention(1, 1, 2, 3, 36))
    whole.source.grid_ = grid_of(6, 6)[None]
    left = part_of(whole, 0, torch.arange(3), torch.tensor([1, 3, 18, 20, 21, 35]))
    assert (feather(left)[0] >= 1).tolist() == [False, True, True, False, True, False]


def test_a_smaller_count_than_the_lattice_keeps_its_best():
    evidence = evidence_of(random_attention(1, 1, 2, 3, 36))
    evidence.source.grid_ = grid_of(6, 6)[None]
    attention = feather(evidence, None)[0]
    lattice = [0, 3, 18, 21]
    assert cut(evidence, feather(evidence), 2).tolist() == sorted(sorted(lattice, key=lambda i: -attention[i])[:2])


def test_a_sample_without_tokens_has_no_nan():
    evidence = evidence_of(random_attention(1, 2, 2, 3, 4), [4, 0], [3, 0])
    assert feather(evidence).isfinite().all()


def test_without_a_lattice_no_place_is_asked_for():
    evidence = evidence_of(random_attention(1, 1, 2, 3, 4))
    feather(replace(evidence), stride=None)
    assert evidence.source.asked == ["queries", "keys"]


def test_a_stride_below_one_is_refused():
    with pytest.raises(ValueError, match="stride=0 must be >= 1"):
        feather(evidence_of(random_attention(1, 1, 2, 3, 4)), stride=0)
