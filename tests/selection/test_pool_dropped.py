"""Pool dropped, against plain loops: who joins whom, what is forgotten, and what is refused."""

import pytest
import torch
from given_evidence import given_evidence, grid_of, made

from autoprune_lab.selection.pool_dropped import PoolDropped

NEWLINES = torch.tensor([[1, 0, -1, -1], [1, 0, -1, -1]])
PLACES = torch.cat([grid_of(5, 6), NEWLINES, grid_of(4, 4, picture=1), grid_of(4, 4, picture=2)])


def pooled(places, scores, n_kept, n_means):
    """Index -> the tokens that its state is the mean of."""
    kept = scores.argsort(descending=True)[:n_kept].tolist()
    rest = [i for i in range(len(places)) if i not in kept]
    targets = rest[:: len(rest) // n_means][:n_means]
    groups = {i: [i] for i in [*kept, *targets]}
    for i in set(rest) - set(targets):
        beside = [target for target in targets if places[target][:2].equal(places[i][:2])]
        if beside:
            nearest = min(beside, key=lambda target: int((places[target] - places[i]).square().sum()))
            groups[nearest].append(i)
    return groups


@pytest.mark.parametrize(("n_kept", "n_means"), [(20, 7), (0, 9), (60, 2), (30, 1)])
def test_equals_plain_loops_over_pictures(n_kept, n_means):
    draw = torch.Generator().manual_seed(n_kept)
    hidden, scores = (torch.randn(len(PLACES), *size, generator=draw) for size in ((5,), ()))
    evidence = given_evidence(len(PLACES), grid=PLACES, hidden=hidden)
    index, states = made(PoolDropped(), evidence, scores, n_kept, n_means)
    groups = pooled(PLACES, scores, n_kept, n_means)
    assert index == sorted(groups)
    torch.testing.assert_close(states, torch.stack([hidden[groups[i]].mean(0) for i in index]))


def test_of_a_picture_without_a_mean_what_is_dropped_is_forgotten():
    places = torch.cat([grid_of(1, 4), grid_of(1, 4, picture=1)])
    hidden = torch.eye(8)
    index, states = made(PoolDropped(), given_evidence(8, grid=places, hidden=hidden), torch.zeros(8), 0, 1)
    assert index == [0]
    assert states.tolist() == [[0.25] * 4 + [0.0] * 4]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"outside \[0, 1\)"):
        PoolDropped(share)
