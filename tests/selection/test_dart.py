"""Exact DART: the official code's numbers, plain loops, and the edges."""

import numpy as np
import pytest
import torch
from given_evidence import given_evidence
from goldens import goldens

from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention
from autoprune_lab.selection.dart import Dart, key_norm


def kept_by(dart, evidence, scores, allowed):
    """Each sample's tokens that stay of a plan for `allowed`."""
    kept, merged = map(torch.from_numpy, dart.split(np.array(allowed), evidence.counts))
    survivors = dart(evidence, scores, kept, merged)
    assert survivors.hidden is survivors.index is None
    return [row.nonzero().flatten().tolist() for row in survivors.keep]


@pytest.mark.parametrize("golden", goldens("dart"), ids=str)
def test_equals_the_official_code(golden):
    start, n = golden.params["start"], golden.params["images"]
    keys, states = golden.inputs["keys"][None], golden.inputs["states"][None]
    parts = {"vision": slice(start, start + n), "text": slice(start + n, None)}
    turned = {(of, True): keys[:, :, part] for of, part in parts.items()}
    evidence = given_evidence(
        n,
        states.shape[1] - start - n,
        keys=lambda of, rotary: turned[of, rotary],
        normed=lambda of: states[:, parts[of]],
    )
    dart = Dart(golden.params["image_pivots"], golden.params["text_pivots"], start)
    scores, each = key_norm(evidence), golden.outputs["each"]
    pivots = scores[0].argsort(descending=True)[: dart.image_pivots]
    count = dart.image_pivots + each * (dart.image_pivots + dart.text_pivots)
    golden.check(image_pivots=pivots, kept=kept_by(dart, evidence, scores, [count])[0])


def plain(dart, evidence, scores, sample, allowed):
    """One sample in plain loops, over lists."""
    n, m = int(evidence.vision_mask[sample].sum()), int(evidence.text_mask[sample].sum())
    if allowed == n:
        return list(range(n))
    states = [*evidence.normed("vision")[sample, :n].double(), *evidence.normed("text")[sample, :m].double()]
    norms = evidence.keys("text")[sample, :, :m].abs().sum((0, 2)).tolist()
    image = sorted(range(n), key=lambda i: -float(scores[sample, i]))[: min(dart.image_pivots, allowed)]
    text = sorted(range(m), key=lambda j: -norms[j])[: dart.text_pivots]
    turns = list(set([dart.start + i for i in image] + [dart.start + n + j for j in text]))
    kept, to_fill = list(image), allowed - len(image)
    for turn, place in enumerate(turns):
        share = to_fill // len(turns) + (turn < to_fill % len(turns))
        pivot = states[place - dart.start]
        cosine = {i: float(pivot @ states[i] / pivot.norm() / states[i].norm()) for i in range(n) if i not in kept}
        kept += sorted(cosine, key=cosine.get)[:share]
    return sorted(kept)


@pytest.mark.parametrize("dart", [Dart(), Dart(1, 0, 3), Dart(2, 3, 0), Dart(9, 1, 14)])
def test_equals_plain_loops_on_a_ragged_batch(dart):
    attention = random_attention(0, 6, 2, 7, 40)
    evidence = evidence_of(attention, [40, 23, 12, 1, 9, 17], [7, 2, 1, 3, 7, 5], seed=dart.start)
    scores, allowed = key_norm(evidence), [25, 9, 12, 1, 3, 0]
    expected = [plain(dart, evidence, scores, i, count) for i, count in enumerate(allowed)]
    assert kept_by(dart, evidence, scores, allowed) == expected
    assert [len(row) for row in expected] == allowed


def test_pivots_are_those_that_the_scores_name():
    evidence = evidence_of(random_attention(1, 1, 2, 3, 20))
    assert kept_by(Dart(3), evidence, torch.arange(20.0)[None], [3]) == [[17, 18, 19]]


def test_key_norm_is_of_all_heads_after_the_rotary():
    evidence = evidence_of(random_attention(2, 2, 2, 3, 5), [5, 3])
    torch.testing.assert_close(key_norm(evidence), evidence.keys("vision", rotary=True).abs().sum((1, 3)))


@pytest.mark.parametrize("fields", [{"image_pivots": 0}, {"text_pivots": -1}, {"start": -1}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}={fields[name]}.*must be >="):
        Dart(**fields)
