"""CDPruner's selection against the official code and in plain algebra."""

import pytest
import torch
from given_tensors import given, picked
from goldens import goldens
from torch.nn.functional import normalize

from autoprune_lab.selection.cdpruner import Cdpruner
from autoprune_lab.selection.hiprune import ReceivedAttention
from autoprune_lab.selection.scorers import text_likeness


@pytest.mark.parametrize("golden", goldens("cdpruner"), ids=str)
def test_is_the_official_code_s(golden):
    image, text = (normalize(golden.inputs[f"{name}_embeds"], dim=-1) for name in ("image", "text"))
    features = golden.inputs["features"]
    scorer, seen = Cdpruner(lambda evidence: -(image @ text.T).mean(-1)[None]), given(len(features), hidden=features)
    order = picked(scorer(seen), golden.params["keep"])
    golden.check(relevance=scorer.scaled(seen)[0], order=order, kept=sorted(order))


def cdpruner(hidden, relevance):
    """The picks that each make the kernel's determinant largest, while it is there at all."""
    relevance = torch.tensor(relevance).double()
    weight = (relevance - relevance.min() + 1e-6) / (relevance.max() - relevance.min())
    points = weight[:, None] * normalize(hidden.double(), dim=-1)
    order: list[int] = []
    for _ in range(min(hidden.shape)):
        volume = {i: torch.linalg.svdvals(points[[*order, i]]).prod() for i in range(len(points)) if i not in order}
        order.append(max(volume, key=volume.get))
    return order


def test_maximises_the_determinant_then_goes_by_relevance():
    counts = [20, 9, 2]
    seen = given(20, counts)
    scores = Cdpruner()(seen)
    for i, n in enumerate(counts):
        relevance = text_likeness(seen)[i, :n]
        first = cdpruner(seen.hidden[i, :n], relevance.tolist())
        rest = [token for token in relevance.argsort(descending=True).tolist() if token not in first]
        assert scores[i, :n].argsort(descending=True).tolist() == first + rest


def test_equal_tokens_come_last_and_every_token_once():
    hidden = torch.cat([torch.eye(4, 8)] * 3)
    seen = given(12, hidden=hidden)
    order = picked(Cdpruner()(seen), 12)
    assert sorted(order) == list(range(12))
    assert sorted(token % 4 for token in order[:4]) == [0, 1, 2, 3]


@pytest.mark.parametrize("n", [1, 3])
def test_equal_relevance_is_one(n):
    scorer, seen = Cdpruner(lambda evidence: torch.full(evidence.vision_mask.shape, 0.3)), given(3, [n, 0])
    assert scorer.scaled(seen)[0].tolist() == [1.0] * n + [0.0] * (3 - n)
    assert scorer(seen).isfinite().all()


def test_the_tower_s_layers_are_those_of_relevance():
    assert Cdpruner(ReceivedAttention(3)).tower_layers == (3,)


def test_text_likeness_is_the_mean_cosine_with_the_text():
    seen = given(6, [6, 4])
    expected = torch.cosine_similarity(seen.hidden[:, :, None], seen.text[:, None], dim=-1).mean(-1)
    torch.testing.assert_close(text_likeness(seen)[seen.vision_mask], expected[seen.vision_mask])
