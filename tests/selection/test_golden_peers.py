"""The peers of before against their official code's numbers."""

import pytest
import torch

from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.diversity import max_min_diversity
from autoprune_lab.selection.keep_distinct import KeepDistinct
from autoprune_lab.selection.recovery import drop
from autoprune_lab.selection.scorers import cls_attention, last_token_attention
from tests.support.given_evidence import given_evidence, made, with_weights
from tests.support.goldens import goldens


@pytest.mark.parametrize("golden", goldens("visionzip"), ids=str)
def test_visionzip(golden):
    """[CLS] comes first in its inputs and in its tokens; joins count targets and tokens as they stand."""
    n_kept, n_made = golden.params["dominant"], golden.params["contextual"]
    cls, features = golden.inputs["features"][0], golden.inputs["features"][1:]
    attention = golden.inputs["attention"][:, 0, 1:].mean(0)
    keys, n = golden.inputs["keys"][1:], len(features)
    evidence = given_evidence(n, hidden=features, mean_keys=keys, tower_attention=attention)
    scores, recovery = cls_attention(evidence)[0], ContextualMerge(compare="keys", added=True)
    index, tokens = made(recovery, evidence, scores, n_kept, n_made)
    _, weights = made(recovery, with_weights(evidence), scores, n_kept, n_made)
    rest = [i for i in range(n) if i not in index]
    golden.check(
        dominant_by_attention=scores.argsort(descending=True)[:n_kept],
        dominant=index[:n_kept],
        targets=index[n_kept:],
        joins=weights[n_kept:, rest].argmax(0),
        tokens=torch.cat([cls[None], tokens]),
    )


def test_a_target_that_none_joins_stays_itself():
    evidence = given_evidence(4, hidden=torch.eye(4), mean_keys=torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0]]))
    recovery = ContextualMerge(compare="keys", added=True)
    index, tokens = made(recovery, evidence, torch.tensor([0.0, 0, 0, 1]), 1, 2)
    assert index == [3, 0, 1]
    assert tokens.tolist() == [[0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("golden", goldens("vispruner"), ids=str)
def test_vispruner(golden):
    """In float32 rounding decides one of the choices in `n576_k64_i0.5`, and all that follow from it."""
    keep, important = golden.params["keep"], golden.params["important"]
    features = golden.inputs["features"]
    scores = golden.inputs["attention"].mean(0)
    recovery, evidence = KeepDistinct(important, double=True), given_evidence(len(features), hidden=features)
    n_best = int(keep * important)
    index, _ = made(recovery, evidence, scores, n_best, keep - n_best)
    order = scores.argsort(descending=True)[:n_best].tolist()
    assert order == golden.outputs["important"]
    golden.check(kept=index)
    assert sorted(golden.outputs["diverse"]) == sorted({*index} - {*order})


@pytest.mark.parametrize("golden", goldens("divprune"), ids=str)
def test_divprune(golden):
    features = golden.inputs["features"]
    scores = max_min_diversity(given_evidence(len(features), hidden=features))[0]
    order = scores.argsort(descending=True)[: round(golden.params["ratio"] * len(features))]
    golden.check(order=order, kept=order.sort().values)


@pytest.mark.parametrize("golden", goldens("fastv"), ids=str)
def test_fastv(golden):
    start, n = golden.params["start"], golden.params["images"]
    evidence = given_evidence(n, last_row=golden.inputs["attention"][:, -1, start : start + n])
    scores, n_kept = last_token_attention(evidence)[0], int(n * golden.params["ratio"])
    stays = drop(evidence, scores[None], torch.tensor([n_kept]), torch.tensor([0])).keep[0]
    golden.check(scores=scores, order=scores.argsort(descending=True)[:n_kept], kept=stays.nonzero().flatten())
