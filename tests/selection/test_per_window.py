"""A budget per window: how the kept tokens are spread, against plain loops."""

from fractions import Fraction

import pytest
import torch
from given_evidence import given_evidence, grid_of
from hypothesis import given
from hypothesis import strategies as st

from autoprune_lab.plugins.plain_evidence import evidence_of, part_of, random_attention
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.per_window import per_window
from autoprune_lab.selection.scorers import feature_norm, last_token_attention
from search.config.experiment import Experiment

PLACES = torch.cat([grid_of(5, 6), grid_of(3, 3, picture=1), torch.tensor([[1, 0, -1, -1]] * 2), grid_of(2, 4, 2, 1)])


def ragged(seed=0):
    """49 places: two pictures and a frame, two newlines; the second and third sample have the first of them."""
    evidence = evidence_of(random_attention(seed, 4, 2, 3, len(PLACES)), [49, 41, 8, 1], [3, 2, 3, 1])
    evidence.source.grid_ = PLACES.expand(4, -1, -1).masked_fill(~evidence.vision_mask[..., None], -1)
    return evidence


def plain(places, scores, window):
    """Tokens in the order in which they are taken."""
    cells = {}
    for i, (picture, t, h, w) in enumerate(places.tolist()):
        cells.setdefault((picture, t, h // window, w // window), []).append(i)
    keys = {}
    for members in cells.values():
        for r, i in enumerate(sorted(members, key=lambda i: -scores[i])):
            keys[i] = (Fraction(2 * r + 1, 2 * len(members)), -scores[i])
    return sorted(keys, key=keys.get)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("scorer", [last_token_attention, feature_norm])
def test_equals_plain_loops_on_a_ragged_batch(window, scorer):
    evidence = ragged()
    found = per_window(evidence, scorer, window)
    for i, n in enumerate(evidence.counts):
        expected = plain(evidence.grid[i, :n], scorer(evidence)[i, :n].tolist(), window)
        assert found[i, :n].argsort(descending=True).tolist() == expected


@given(st.integers(0, 36), st.integers(0, 9))
def test_full_windows_give_the_same_number_or_one_more(n, seed):
    evidence = evidence_of(random_attention(seed, 1, 2, 3, 36))
    evidence.source.grid_ = grid_of(6, 6)[None]
    taken = per_window(evidence, window=2)[0].argsort(descending=True)[:n]
    counts = torch.zeros(9).index_add(0, taken // 12 * 3 + taken % 6 // 2, torch.ones(n))
    assert counts.max() - counts.min() <= 1


def test_tokens_that_are_gone_do_not_count():
    whole = evidence_of(random_attention(3, 1, 2, 3, 36))
    whole.source.grid_ = grid_of(6, 6)[None]
    present = torch.tensor([0, 1, 6, 7, 3, 35])  # a whole window and two lonely tokens
    order = per_window(part_of(whole, 0, torch.arange(3), present), window=2)[0].argsort(descending=True).tolist()
    assert set(order[:2]) < {0, 1, 2, 3}
    assert set(order[2:4]) == {4, 5}


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="window=0 must be >= 1"):
        per_window(given_evidence(4, 1), window=0)


def test_it_can_be_saved(tmp_path):
    pruner = Experiment.compose(["method=window_uniform"]).pruner()
    pruner.save(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml").scorer.keywords == {"scorer": last_token_attention, "window": 4}
