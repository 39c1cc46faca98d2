"""PACT against its official code's numbers, and in plain loops."""

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, evidence_of, uneven_attention
from autoprune_lab.selection.pact import Pact, mean_query_attention
from tests.support.given_evidence import given_evidence, made, with_weights
from tests.support.goldens import goldens

COUNTS, MADE = [60, 41, 12, 2, 1], torch.tensor([7, 30, 0, 1, 0])


def seen(golden):
    after = golden.inputs["cluster_keys"].unflatten(1, (golden.inputs["keys"].shape[0], -1)).transpose(0, 1)

    def keys(of, rotary):
        return after[None] if rotary else golden.inputs["keys"][None]

    given = {"hidden": golden.inputs["tokens"], "keys": keys, "queries": golden.inputs["queries"]}
    return given_evidence(len(golden.inputs["tokens"]), **given)


@pytest.mark.parametrize("golden", goldens("pact"), ids=str)
def test_official_code(golden):
    evidence, n = seen(golden), len(golden.inputs["tokens"])
    scores = mean_query_attention(evidence, golden.params["times_norm"])[0]
    recovery = Pact(*(golden.params[name] for name in ("keep", "cutoff", "coef")))
    centres, tokens = made(recovery, evidence, scores, 0, len(golden.outputs["centres"]))
    _, weights = made(recovery, with_weights(evidence), scores, 0, len(centres))
    kept = sorted(scores.argsort(descending=True)[: int(n * golden.params["keep"])].tolist())
    order = kept + sorted({*range(n)} - {*kept})
    owner = torch.where(weights.any(0), torch.tensor(centres)[weights.argmax(0)], -1)
    golden.check(scores=scores, kept=kept, centres=centres, tokens=tokens)
    golden.check(label=owner[order], weights=(weights > 0).sum(1).float())


def plain(single, scores, wanted, keep, cutoff, coef):
    """Centres and tokens of one sample; None where the cutoff makes another number."""
    hidden, keys, n = single.hidden[0], single.keys()[0].transpose(0, 1).flatten(1), len(scores)
    unit = torch.nn.functional.normalize(keys, dim=-1)
    distance = (1 - unit @ unit.T).clamp(min=0)
    clustered = scores.argsort(descending=True)[: max(int(n * keep), wanted)].tolist()
    density = {i: sum(float((-((distance[i, j] / 2) ** 2)).exp()) for j in clustered) for i in clustered}
    centres = []
    for i in sorted(clustered, key=lambda i: -density[i]):
        if all(distance[i, j] > cutoff for j in centres):
            centres.append(i)
    clusters = {i: [i] for i in centres}
    for j in {*range(n)} - {*centres}:
        nearest = min(centres, key=lambda i: float(distance[i, j]))
        if distance[nearest, j] <= cutoff * coef:
            clusters[nearest].append(j)
    return {i: hidden[clusters[i]].mean(0) for i in sorted(centres)}


@pytest.mark.parametrize("cutoff", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("keep", [0.55, 1.0])
def test_its_own_number_of_clusters_in_plain_loops_in_ragged_batches(keep, cutoff):
    evidence = evidence_of(uneven_attention(0, 5, 5, 60), COUNTS)
    scores = mean_query_attention(evidence)
    expected = [plain(alone(evidence, i), scores[i, :n], 1, keep, cutoff, 1.5) for i, n in enumerate(COUNTS)]
    wanted = torch.tensor([len(tokens) for tokens in expected])
    survivors = Pact(keep, cutoff)(evidence, scores, 0 * wanted, wanted)
    for i, tokens in enumerate(expected):
        slots = survivors.keep[i].nonzero().flatten()
        assert slots.tolist() == list(tokens)
        torch.testing.assert_close(survivors.hidden[i, slots], torch.stack([*tokens.values()]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cutoff", [0.0, 0.21, 2.0])
def test_any_planned_number_comes_out_the_same_alone(cutoff):
    evidence = evidence_of(uneven_attention(1, 5, 5, 60), COUNTS)
    scores, kept = mean_query_attention(evidence), torch.where(MADE > 0, 0, torch.tensor(COUNTS))
    survivors = Pact(cutoff=cutoff)(evidence, scores, kept, MADE)
    assert survivors.keep.sum(1).tolist() == (kept + MADE).tolist()
    for i, count in enumerate(COUNTS):
        one = Pact(cutoff=cutoff)(alone(evidence, i), scores[i, None, :count], kept[i, None], MADE[i, None])
        assert torch.equal(one.keep[0], survivors.keep[i, :count])
        if one.hidden is not None:
            torch.testing.assert_close(one.hidden[0], survivors.hidden[i, :count])
        assert survivors.hidden[i, :count].isfinite().all()


def test_equal_tokens_are_one_cluster_and_as_many_as_planned():
    evidence = given_evidence(6, hidden=torch.eye(6), keys=torch.ones(1, 6, 4))
    for n_made in (1, 3):
        index, tokens = made(Pact(), evidence, torch.arange(6.0), 0, n_made)
        assert len(index) == n_made
        torch.testing.assert_close(tokens.sum(1), torch.ones(n_made))


@pytest.mark.parametrize(
    ("words", "problem"),
    [({"keep": 1.1}, "keep=1.1 is"), ({"cutoff": -0.1}, "cutoff=-0.1"), ({"coef": 0.5}, "coef=0.5")],
)
def test_bad_settings_are_refused(words, problem):
    with pytest.raises(ValueError, match=problem):
        Pact(**words)


def test_the_norm_may_count_and_key_heads_may_be_shared():
    evidence = evidence_of(uneven_attention(2, 1, 5, 12))
    norm = evidence.hidden.norm(dim=-1)
    torch.testing.assert_close(mean_query_attention(evidence, times_norm=True), mean_query_attention(evidence) * norm)
    query, key = torch.randn(4, 9, 8), torch.randn(2, 9, 8)
    shared = given_evidence(9, hidden=torch.zeros(9, 1), keys=key, queries=query)
    repeated = given_evidence(9, hidden=torch.zeros(9, 1), keys=key.repeat_interleave(2, 0), queries=query)
    torch.testing.assert_close(mean_query_attention(shared), mean_query_attention(repeated))
