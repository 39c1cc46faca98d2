"""SCOPE against the official code and in plain loops."""

import pytest
import torch
from given_tensors import given, picked
from goldens import goldens

from autoprune_lab.selection.scope import Scope


@pytest.mark.parametrize("golden", goldens("scope"), ids=str)
def test_is_the_official_code_s(golden):
    attention, params = golden.inputs["attention"], golden.params
    features = golden.inputs["features"]
    seen = given(len(features), tower=features, cls=attention.mean(0))
    scorer = Scope(params["alpha"], params["combined"], heads=len(attention))
    order = picked(scorer(seen), params["keep"])
    unit = torch.nn.functional.normalize(features, dim=-1)
    coverage = (unit @ unit[order].T).amax(1).clamp(min=0).sum()
    golden.check(saliency=scorer.saliency(seen)[0], order=order, kept=sorted(order), coverage=float(coverage))


def scope(features, attention, alpha, combined, heads):
    """The order of picks in plain loops."""
    features = features.double()
    cosine = torch.cosine_similarity(features[:, None], features[None], dim=-1).tolist()
    tokens, order = range(len(features)), []
    covered = [0.0] * len(features)
    while len(order) < len(features):
        value = {}
        for j in set(tokens) - {*order}:
            gain = sum(max(0.0, cosine[i][j] - covered[i]) for i in tokens)
            weight = (heads * attention[j]) ** alpha
            value[j] = gain * weight if combined == "multi" else gain + weight
        order.append(max(value, key=value.get))
        covered = [max(covered[i], cosine[i][order[-1]]) for i in tokens]
    return order


@pytest.mark.parametrize(("alpha", "combined", "heads"), [(1.0, "multi", 16), (0.5, "multi", 3), (2.0, "add", 4)])
def test_equals_plain_loops(alpha, combined, heads):
    counts = [21, 12, 2, 1, 0]
    seen = given(21, counts)
    scores = Scope(alpha, combined, heads)(seen)
    assert scores.isfinite().all()
    for i, n in enumerate(counts):
        expected = scope(seen.tower_features()[i, :n], seen.cls_attention[i, :n].tolist(), alpha, combined, heads)
        assert scores[i, :n].argsort(descending=True).tolist() == expected


def test_tokens_without_attention_come_last_in_their_order():
    seen = given(5, cls=torch.tensor([0.0, 0.1, 0.0, 0.2, 0.0]))
    assert picked(Scope()(seen), 5)[2:] == [0, 2, 4]


@pytest.mark.parametrize("fields", [{"alpha": -1.0}, {"heads": 0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        Scope(**fields)


def test_an_unknown_combination_is_refused():
    with pytest.raises(Exception, match="combined"):  # by its annotation, where types are checked as they run
        Scope(combined="both")
