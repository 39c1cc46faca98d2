"""G-Prune against the official code and in plain loops."""

import math

import pytest
import torch
from given_tensors import given, picked
from goldens import goldens

from autoprune_lab.selection.gprune import Gprune

SETTINGS = ("similarity", "temperature", "steps")


@pytest.mark.parametrize("golden", goldens("gprune"), ids=str)
def test_is_the_official_code_s(golden):
    features = golden.inputs["features"]
    scores = Gprune(**{name: golden.params[name] for name in SETTINGS})(given(len(features), hidden=features))
    order = picked(scores, int(golden.params["ratio"] * len(features)))
    golden.check(scores=scores[0], order=order, kept=sorted(order))


def gprune(hidden, similarity, temperature, steps):
    """Scores in plain loops."""
    hidden = hidden.double()
    cosine = torch.cosine_similarity(hidden[:, None], hidden[None], dim=-1).tolist()
    tokens = range(len(hidden))
    edges = [[j for j in tokens if cosine[i][j] >= similarity or i == j] for i in tokens]
    flow = hidden.norm(dim=-1).tolist()
    for _ in range(steps):
        arrived = [0.0] * len(hidden)
        for i in tokens:
            total = sum(math.exp(cosine[i][j] / temperature) for j in edges[i])
            for j in edges[i]:
                arrived[j] += flow[i] * math.exp(cosine[i][j] / temperature) / total
        flow = arrived
    return [flow[i] / len(edges[i]) for i in tokens]


@pytest.mark.parametrize("settings", [(0.5, 0.03, 5), (0.1, 0.2, 1), (-1.0, 0.5, 2), (0.9, 0.1, 0)])
def test_equals_plain_loops(settings):
    counts = [19, 11, 2, 1, 0]
    seen = given(19, counts)
    scores = Gprune(*settings)(seen)
    assert scores.isfinite().all()
    for i, n in enumerate(counts):
        expected = torch.tensor(gprune(seen.hidden[i, :n], *settings))
        torch.testing.assert_close(scores[i, :n], expected, rtol=1e-4, atol=1e-5, check_dtype=False)


def test_a_token_alone_keeps_its_norm_and_no_length_is_no_crash():
    seen = given(3, hidden=torch.tensor([[3.0, 4.0], [-3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(Gprune()(seen)[0], torch.tensor([5.0, 5.0, 0.0]))


@pytest.mark.parametrize("fields", [{"similarity": 1.1}, {"temperature": 0.0}, {"steps": -1}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        Gprune(**fields)
