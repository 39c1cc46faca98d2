"""ToMe against its official code's numbers, and in plain loops."""

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, evidence_of, uneven_attention
from autoprune_lab.selection.groups import check_compared
from autoprune_lab.selection.tome import Tome, tome_schedule
from tests.support.given_evidence import given_evidence, made, with_weights
from tests.support.goldens import goldens

COUNTS, MADE = [60, 41, 12, 2, 1], torch.tensor([7, 20, 0, 1, 0])


@pytest.mark.parametrize("golden", goldens("tome"), ids=str)
def test_official_code(golden):
    tokens = golden.inputs["tokens"]
    n, protected = len(tokens), golden.params["class_token"] + golden.params["distill_token"]
    evidence = given_evidence(n, hidden=tokens, mean_keys=golden.inputs["metric"])
    left = n
    for r in golden.params["rs"]:
        left -= min(r, (left - protected) // 2)
    recovery = Tome(golden.params["rs"], "keys", golden.params["class_token"], golden.params["distill_token"], False)
    _, merged = made(recovery, evidence, torch.zeros(n), 0, left)
    _, weights = made(recovery, with_weights(evidence), torch.zeros(n), 0, left)
    golden.check(tokens=merged, slot=weights.argmax(0), size=(weights > 0).sum(1).float())
    torch.testing.assert_close(weights.sum(1), torch.ones(left))


@pytest.mark.parametrize("golden", goldens("tome_schedule"), ids=str)
def test_official_schedule(golden):
    r = golden.params["r"]
    golden.check(schedule=tome_schedule(golden.params["layers"], tuple(r) if golden.params["form"] == "tuple" else r))


def plain(hidden, metric, wanted, schedule=()):
    """Slots of one sample's tokens in ToMe's order, and the tokens."""
    left = [(metric[i], hidden[i], 1, i) for i in range(len(hidden))]
    schedule = list(schedule)
    while len(left) > wanted:
        r = min(schedule.pop(0) if schedule else len(left), len(left) - wanted, len(left) // 2)
        first, second = left[::2], left[1::2]
        cosine = torch.cosine_similarity(
            torch.stack([a[0] for a in first])[:, None], torch.stack([b[0] for b in second])[None], dim=-1
        )
        best, into = cosine.max(1)
        order = best.argsort(descending=True).tolist()
        for i in order[:r]:
            (key, x, n, _), (key2, x2, n2, slot) = first[i], second[int(into[i])]
            second[int(into[i])] = ((key * n + key2 * n2) / (n + n2), (x * n + x2 * n2) / (n + n2), n + n2, slot)
        left = [first[i] for i in order[r:]] + second
    return [slot for *_, slot in left], torch.stack([x for _, x, *_ in left])


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("compare", ["keys", "hidden"])
@pytest.mark.parametrize("schedule", [(), (5, 3)])
def test_ragged_batches_in_plain_loops(schedule, compare, in_place):
    evidence = evidence_of(uneven_attention(0, 5, 5, 60), COUNTS)
    kept = torch.where(MADE > 0, 0, torch.tensor(COUNTS))
    survivors = Tome(schedule, compare, in_place=in_place)(evidence, torch.zeros(5, 60), kept, MADE)
    for i, count in enumerate(COUNTS):
        single, slots = alone(evidence, i), survivors.keep[i].nonzero().flatten()
        if not MADE[i]:
            assert survivors.keep[i].sum() == count
            torch.testing.assert_close(survivors.hidden[i, slots], single.hidden[0], atol=0, rtol=0)
            continue
        metric = single.hidden[0] if compare == "hidden" else single.mean_keys()[0]
        order, tokens = plain(single.hidden[0], metric, int(MADE[i]), schedule)
        index = slots if in_place else survivors.index[i, slots]
        assert index.tolist() == (sorted(order) if in_place else order)
        expected = dict(zip(order, tokens, strict=True))
        got = survivors.hidden[i, slots]
        torch.testing.assert_close(got, torch.stack([expected[j] for j in index.tolist()]), atol=1e-5, rtol=1e-5)


def test_a_single_token_is_the_mean_of_all():
    evidence = evidence_of(uneven_attention(1, 1, 5, 60))
    survivors = Tome()(evidence, torch.zeros(1, 60), torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(survivors.hidden[0, survivors.keep[0]][0], evidence.hidden[0].mean(0))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_tokens_that_never_go_stay_alone(n):
    """Fewer are allowed than the two that nothing happens to: the first of them stay."""
    evidence = given_evidence(n, hidden=torch.eye(n), mean_keys=torch.randn(n, 4))
    wanted = max(n - 1, 1)
    index, tokens = made(
        Tome(class_token=True, distill_token=True, in_place=False), evidence, torch.zeros(n), 0, wanted
    )
    assert len(index) == len(tokens) == wanted
    assert index[:2] == [0, 1][:wanted]
    assert tokens[0].tolist() == [1.0] + [0.0] * (n - 1)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"schedule=\(3, -1\) must be >= 0"):
        Tome([3, -1])
    with pytest.raises(ValueError, match="compare='x' must be one of hidden, keys"):
        check_compared("x")


@pytest.mark.parametrize("r", [-1, (3, 1.5), [1, 2, 3, 4], [-1]])
def test_a_bad_schedule_is_refused(r):
    with pytest.raises(ValueError, match="must be"):
        tome_schedule(3, r)


def test_a_schedule_of_one_layer_is_its_low_end():
    assert (tome_schedule(1, 5), tome_schedule(1, (5, -1.0)), tome_schedule(3, [])) == ([5], [10], [0, 0, 0])
