"""Keep distinct against VisPruner in plain loops."""

import pytest
import torch
from torch.nn.functional import normalize

from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention
from autoprune_lab.selection.keep_distinct import KeepDistinct
from autoprune_lab.selection.scorers import text_attention


def vispruner(hidden, scores, n_important, n_diverse, step):
    """The tokens that one picture keeps, as the paper's code chooses them."""
    unit, order = normalize(hidden, dim=-1), scores.argsort(descending=True).tolist()
    important, rest = order[:n_important], order[n_important:]
    while len(rest) > n_diverse:
        first, second = rest[::2], rest[1::2]
        likeness = (unit[first] @ unit[second].T).amax(1)
        stay = likeness.argsort(descending=True)[min(step, len(rest) - n_diverse) :]
        rest = [first[i] for i in stay.tolist()] + second
    return sorted(important + rest)


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_equals_vispruner_in_plain_loops(seed, step):
    counts, kept, merged = [90, 47, 30, 11, 90], torch.tensor([10, 8, 30, 0, 2]), torch.tensor([10, 9, 0, 1, 60])
    evidence = evidence_of(random_attention(seed, 5, 2, 5, 90), counts, [5, 3, 4, 2, 5], seed=seed)
    scores = text_attention(evidence)
    survivors = KeepDistinct(step=step)(evidence, scores, kept, merged)
    assert survivors.hidden is None
    for i, count in enumerate(counts):
        sizes = int(kept[i]), int(merged[i])
        expected = vispruner(evidence.hidden[i, :count], scores[i, :count], *sizes, step)
        assert survivors.keep[i].nonzero().flatten().tolist() == expected


def test_of_two_equal_tokens_one_goes():
    evidence = evidence_of(random_attention(0, 1, 1, 2, 8))
    directions = torch.eye(8)[[0, 1, 1, 2, 3, 4, 5, 6]]
    evidence.source.hidden_ = directions[None]
    scores = torch.linspace(1, 0, 8)[None]
    survivors = KeepDistinct(important=0.125, step=1)(evidence, scores, torch.tensor([1]), torch.tensor([6]))
    assert survivors.keep[0].tolist() == [True, False, True, *[True] * 5]


@pytest.mark.parametrize("fields", [{"important": -0.1}, {"important": 1.1}, {"step": 0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        KeepDistinct(**fields)
