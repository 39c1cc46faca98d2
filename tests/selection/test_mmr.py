"""Maximal marginal relevance against the official code and in plain loops."""

import pytest
import torch
from given_tensors import given, picked
from goldens import goldens

from autoprune_lab.selection.hiprune import ReceivedAttention
from autoprune_lab.selection.mmr import Mmr
from autoprune_lab.selection.scorers import feature_norm


@pytest.mark.parametrize("golden", goldens("mmr"), ids=str)
def test_is_the_official_code_s(golden):
    seen = given(len(golden.inputs["importance"]), hidden=golden.inputs["features"], cls=golden.inputs["importance"])
    scorer = Mmr(balance=golden.params["lambda"], at_once=golden.params["at_once"])
    order = picked(scorer(seen), golden.params["keep"])
    golden.check(importance=scorer.scaled(seen)[0], order=order, kept=sorted(order))


def mmr(hidden, importance, balance, at_once):
    """The order of picks in plain loops."""
    hidden = hidden.double()
    cosine = torch.cosine_similarity(hidden[:, None], hidden[None], dim=-1).tolist()
    low, high = min(importance), max(importance)
    importance = [(value - low) / (high - low + 1e-6) for value in importance]
    order: list[int] = []
    while len(order) < len(importance):
        before = order[: len(order) // at_once * at_once]
        value = {
            i: balance * w - (1 - balance) * max(cosine[i][j] for j in before) if before else w
            for i, w in enumerate(importance)
            if i not in order
        }
        order.append(max(value, key=value.get))
    return order


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("balance", [0.0, 0.4, 1.0])
def test_equals_plain_loops(balance, at_once):
    counts = [23, 14, 2, 1]
    seen = given(23, counts)
    scores = Mmr(feature_norm, balance, at_once)(seen)
    for i, n in enumerate(counts):
        norms = seen.hidden[i, :n].norm(dim=-1).tolist()
        assert scores[i, :n].argsort(descending=True).tolist() == mmr(seen.hidden[i, :n], norms, balance, at_once)


def test_equal_importance_is_none_and_no_token_is_no_crash():
    seen = given(4, [4, 0], hidden=torch.eye(4, 8).expand(2, -1, -1), cls=torch.ones(2, 4))
    scorer = Mmr()
    assert scorer(seen)[0].tolist() == [0, -1, -2, -3]
    assert scorer.scaled(seen)[0].tolist() == [0] * 4
    assert scorer(seen).isfinite().all()


def test_the_tower_s_layers_are_those_of_importance():
    assert Mmr(ReceivedAttention(3)).tower_layers == (3,)
    assert Mmr().tower_layers == ()


@pytest.mark.parametrize("fields", [{"balance": -0.1}, {"balance": 1.1}, {"at_once": 0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        Mmr(**fields)
