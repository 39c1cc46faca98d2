"""PruMerge and PruMerge+ against their official code's numbers, and in plain loops."""

import numpy as np
import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, evidence_of, uneven_attention
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.selection.prumerge import Prumerge, PrumergePlus, WideAttention, outliers
from tests.support.given_evidence import given_evidence, made
from tests.support.goldens import goldens

OWN_COUNT = [g for g in goldens("prumerge_plus") if g.params["adaptive"]]  # training takes some tokens twice
COUNTS, MADE = [60, 41, 12, 3, 1], torch.tensor([20, 9, 0, 2, 0])


def seen(golden):
    """Evidence of the tower's features, keys and queries; [CLS] comes first in all of them."""
    keys, query = golden.inputs["keys"], golden.inputs["queries"][0]
    attention = (keys @ query / keys.shape[1] ** 0.5).softmax(0)[1:]
    features = golden.inputs["features"][1:]
    return given_evidence(len(features), hidden=features, tower_keys=keys[1:], wide_attention=attention)


def rest_of(index, n):
    return sorted({*range(n)} - {*index})


@pytest.mark.parametrize(
    ("method", "golden"),
    [(Prumerge, g) for g in goldens("prumerge")] + [(PrumergePlus, g) for g in OWN_COUNT],
    ids=str,
)
def test_official_code(method, golden):
    evidence = seen(golden)
    scores = WideAttention()(evidence)[0]
    index, tokens = made(method(), evidence, scores, 0, len(golden.outputs["kept"]) + 1)
    n = len(scores)
    golden.check(cls_attention=scores, kept=index[:-1], rest=rest_of(index[:-1], n), tokens=tokens)
    assert index[-1] in golden.outputs["rest"]
    if golden.params["adaptive"]:
        (count,) = outliers(scores[None], torch.ones(1, n, dtype=torch.bool)).tolist()
        golden.check(ratio=count / n, important=int(n * (count / n)))


def plain(hidden, keys, attention, kept, neighbours):
    """The tokens of one sample."""
    unit = torch.nn.functional.normalize(keys, dim=-1)
    tokens = []
    for i in kept:
        others = sorted({*range(len(hidden))} - {i}, key=lambda j: -float(unit[i] @ unit[j]))[:neighbours]
        tokens.append(hidden[i] + sum(attention[j] * hidden[j] for j in others))
    rest = [attention[j] * hidden[j] for j in range(len(hidden)) if j not in kept]
    return torch.stack([*tokens, sum(rest)])


def plus(attention, wanted):
    """The centres of one sample."""
    n, order = len(attention), attention.argsort(descending=True).tolist()
    first, third = np.percentile(attention.double(), [25, 75])
    own = int((attention.double() > third + 1.5 * (third - first)).sum())
    best = []
    for k in range(n + 1):
        step = int(1 / (k / n)) // 3 if k else n
        if not step:
            continue
        centres = order[: int(n * (k / n))] if k else []
        centres = centres + [j for j in range(0, n - 1, step) if j not in centres and k]
        if len(centres) <= wanted:
            best.append((-len(centres), abs(k - own), k, centres))
    centres = min(best)[-1]
    return centres + [j for j in order if j not in centres][: wanted - len(centres)]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("neighbours", [1, 4, 32])
@pytest.mark.parametrize("method", [Prumerge, PrumergePlus])
def test_ragged_batches_in_plain_loops(method, neighbours, in_place):
    evidence = evidence_of(uneven_attention(0, 5, 5, 60), COUNTS)
    scores, kept = WideAttention()(evidence), torch.where(MADE > 0, 0, torch.tensor(COUNTS))
    survivors = method(neighbours, in_place)(evidence, scores, kept, MADE)
    for i, count in enumerate(COUNTS):
        single, slots = alone(evidence, i), survivors.keep[i].nonzero().flatten()
        if not MADE[i]:
            assert survivors.keep[i].sum() == count
            torch.testing.assert_close(survivors.hidden[i, slots], single.hidden[0], atol=0, rtol=0)
            continue
        attention, n = scores[i, :count], int(MADE[i]) - 1
        order = attention.argsort(descending=True).tolist()
        centres = order[:n] if method is Prumerge else plus(attention, n)
        last = next(j for j in order if j not in centres)
        index = slots if in_place else survivors.index[i, slots]
        assert index.tolist() == (sorted([*centres, last]) if in_place else [*centres, last])
        tokens = plain(single.hidden[0], single.tower_keys()[0], attention, centres, neighbours)
        expected = dict(zip([*centres, last], tokens, strict=True))
        got = survivors.hidden[i, slots]
        torch.testing.assert_close(got, torch.stack([expected[j] for j in index.tolist()]), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("method", [Prumerge(), PrumergePlus()])
@pytest.mark.parametrize("n_made", [1, 2, 59])
def test_one_token_is_the_sum_of_all_and_all_but_one_may_stay(method, n_made):
    evidence = evidence_of(uneven_attention(2, 1, 5, 60))
    scores = WideAttention()(evidence)
    survivors = method(evidence, scores, torch.tensor([0]), torch.tensor([n_made]))
    tokens = survivors.hidden[0, survivors.keep[0]]
    assert tokens.shape == (n_made, 8)
    assert tokens.isfinite().all()
    if n_made == 1:
        torch.testing.assert_close(tokens[0], scores[0] @ evidence.hidden[0])


def test_outliers_are_numpy_s():
    draw = torch.Generator().manual_seed(3)
    counts = torch.tensor([40, 17, 4, 2, 1, 0])
    values, real = torch.randn(6, 40, generator=draw).exp(), torch.arange(40) < counts[:, None]
    for row, n, found in zip(values.double(), counts.tolist(), outliers(values, real).tolist(), strict=True):
        if n:
            first, third = np.percentile(row[:n], [25, 75])
            assert found == (row[:n] > third + 1.5 * (third - first)).sum()
        else:
            assert found == 0


def test_nothing_is_made_where_all_stay_and_none_is_kept_where_some_go():
    plan = Plan.within(np.array([[9, 9, 4, 0]]), np.array([9]), Prumerge().split)
    assert (plan.kept.tolist(), plan.merged.tolist()) == ([[9, 9, 0, 0]], [[0, 0, 4, 0]])


def test_no_neighbour_is_refused():
    with pytest.raises(ValueError, match="neighbours=0 must be >= 1"):
        Prumerge(0)
