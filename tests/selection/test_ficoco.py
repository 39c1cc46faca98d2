"""FiCoCo-L against its official code's numbers, and in plain loops."""

import numpy as np
import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, evidence_of, uneven_attention
from autoprune_lab.selection.ficoco import FicocoL, ficoco_score
from tests.support.given_evidence import given_evidence, made, with_weights
from tests.support.goldens import goldens

COUNTS, MADE = [60, 41, 12, 2, 1], torch.tensor([7, 30, 0, 1, 0])


@pytest.mark.parametrize("golden", goldens("ficoco_l"), ids=str)
def test_official_code(golden):
    n, mean = golden.params["images"], golden.inputs["attention"].mean(0)
    given = {"visual_rows": mean[:n], "attention": golden.inputs["attention"][:, n:, :n]}
    evidence = given_evidence(n, len(mean) - n, hidden=golden.inputs["tokens"], **given)
    scores = ficoco_score(evidence)[0]
    index, tokens = made(FicocoL(), evidence, scores, 0, n - golden.params["r"])
    dropped = scores.argsort()[: golden.params["r"]]
    golden.check(scores=-scores, dropped=dropped, kept=index, tokens=tokens)
    whole = with_weights(evidence)
    for i, targets in zip(dropped.tolist(), golden.outputs["targets"], strict=True):
        given_to = made(FicocoL(), whole, scores, 0, n - golden.params["r"])[1][:, i]
        assert {index[j] for j in given_to.nonzero().flatten().tolist()} == {*targets} - {*dropped.tolist()}
        assert len(targets) == golden.outputs["links"]
    assert int(FicocoL()._n_links(np.array([n]))[0]) == golden.outputs["links"]


def plain(single, scores, wanted, quantile):
    """What is left of one sample's tokens, by slot."""
    n, hidden = len(scores), single.hidden[0]
    rows, text = single.visual_rows[0], single.attention[0].mean(0)
    left = {i: hidden[i].clone() for i in scores.argsort(descending=True)[:wanted].tolist()}
    for i in {*range(n)} - {*left}:
        bonds = 0.6 * rows[i, :n] + 0.4 * rows[i, n:] @ text
        bonds[i] = -torch.inf
        links = max(n - 1 - int(quantile * (n - 1)), 1)
        chosen = bonds.argsort(descending=True)[:links]
        parts = bonds.softmax(0)[chosen]
        for j, part in zip(chosen.tolist(), (parts / parts.sum()).tolist(), strict=True):
            if j in left:
                left[j] += part * hidden[i]
    return dict(sorted(left.items()))


@pytest.mark.parametrize("quantile", [0.998, 0.9])
def test_ragged_batches_in_plain_loops(quantile):
    evidence = evidence_of(uneven_attention(0, 5, 5, 60), COUNTS, [5, 3, 2, 1, 4])
    scores, kept = ficoco_score(evidence), torch.where(MADE > 0, 0, torch.tensor(COUNTS))
    survivors = FicocoL(quantile=quantile)(evidence, scores, kept, MADE)
    for i, count in enumerate(COUNTS):
        expected = plain(alone(evidence, i), scores[i, :count], int(kept[i] + MADE[i]), quantile)
        slots = survivors.keep[i].nonzero().flatten()
        assert slots.tolist() == list(expected)
        torch.testing.assert_close(survivors.hidden[i, slots], torch.stack([*expected.values()]), atol=1e-5, rtol=1e-5)


def test_the_score_in_plain_loops():
    evidence = evidence_of(uneven_attention(1, 2, 5, 9), [9, 4], [5, 0])
    scores = ficoco_score(evidence)
    for i, (n, rows) in enumerate(((9, 5), (4, 0))):
        seen = alone(evidence, i).visual_rows[0]
        text = seen[:, n:].sum(1) / max(rows, 1)
        torch.testing.assert_close(scores[i, :n], 0.4 * text - 0.6 * seen[:, :n].sum(1))


@pytest.mark.parametrize("words", [{"direct": -0.1}, {"quantile": 1.5}])
def test_bad_settings_are_refused(words):
    with pytest.raises(ValueError, match="is outside"):
        FicocoL(**words)
    with pytest.raises(ValueError, match=r"visual=2\.0 is outside"):
        ficoco_score(evidence_of(uneven_attention(1, 1)), visual=2.0)
