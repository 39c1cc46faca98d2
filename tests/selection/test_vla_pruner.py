"""VLA-Pruner in plain loops: what the prompt and earlier decisions look at, and the most unlike of both."""

import numpy as np
import pytest
import torch
from given_tensors import counts_of, given

from autoprune_lab.selection import scorers
from autoprune_lab.selection.recovery import best
from autoprune_lab.selection.vla_pruner import ActionHistory, CombineThenFilter, parts


def paid(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) / shape[-1]


def chosen(semantic, action, hidden, n):
    """The official selection of one picture in plain loops: places that stay, in the order in which they are picked."""
    by = [sorted(range(len(scores)), key=lambda i: -scores[i])[:n] for scores in (semantic.tolist(), action.tolist())]
    candidates = sorted({*by[0], *by[1]})
    unit = hidden / hidden.norm(dim=-1, keepdim=True)
    distance = (1 - unit @ unit.T).tolist()
    picks: list[int] = []
    while len(picks) < n:
        left = [i for i in candidates if i not in picks]
        others = picks or candidates
        nearest = {i: min(distance[i][j] for j in others if j != i) if len(others) > 1 or picks else 0 for i in left}
        picks.append(max(nearest, key=nearest.get))
    return picks


@pytest.mark.parametrize("n", [1, 7, 20, 29])
def test_equals_the_official_selection_in_plain_loops(n):
    seen = given(30, history=paid(1, 1, 3, 30))
    scores, action = paid(2, 1, 30), ActionHistory()(seen)
    keep = CombineThenFilter()(seen, scores, counts_of(0), counts_of(n)).keep
    assert keep[0].nonzero().flatten().tolist() == sorted(chosen(scores[0], action[0], seen.hidden[0], n))


def test_each_picture_has_its_part_and_selects_by_itself():
    grid = torch.tensor([[p, 0, 0, i] for p, n in enumerate((10, 20)) for i in range(n)])
    seen = given(30, grid=grid, history=paid(1, 1, 2, 30))
    scores, action = paid(2, 1, 30), ActionHistory()(seen)
    keep = CombineThenFilter()(seen, scores, counts_of(0), counts_of(12)).keep[0]
    for place, n in ((slice(0, 10), 4), (slice(10, 30), 8)):
        picks = chosen(scores[0, place], action[0, place], seen.hidden[0, place], n)
        assert keep[place].nonzero().flatten().tolist() == sorted(picks)


def test_parts_are_proportional_to_a_token_and_sum_to_the_total():
    picture = torch.tensor([[0] * 5 + [1] * 7 + [2] * 11, [0] * 3 + [3] * 20])  # 3: padding
    for total in range(4):
        found = parts(picture, 3, torch.tensor([5 * total, total]))
        assert found.sum(1).tolist() == [5 * total, total]
        exact = 5 * total * np.array([5, 7, 11]) / 23
        assert (abs(found[0].numpy() - exact) < 1).all()
        assert found[1].tolist() == [total, 0, 0]


def test_without_a_history_the_scores_alone_choose():
    seen = given(30, [30, 17, 0])
    keep = CombineThenFilter(ActionHistory(otherwise=scorers.text_likeness))(
        seen, scorers.text_likeness(seen), counts_of(0, 0, 0), counts_of(9, 4, 0)
    ).keep
    assert keep.equal(best(seen, scorers.text_likeness(seen), counts_of(9, 4, 0)))


def test_newer_decisions_weigh_more_and_older_ones_than_the_window_nothing():
    history = paid(3, 1, 4, 12)
    scores = ActionHistory(window=3, decay=0.5)(given(12, history=history))
    expected = history[0, 0] + 0.5 * history[0, 1] + 0.25 * history[0, 2]
    torch.testing.assert_close(scores[0], expected / expected.sum())
    newest = ActionHistory(window=1)(given(12, history=history))
    torch.testing.assert_close(newest[0], history[0, 0] / history[0, 0].sum())
    torch.testing.assert_close(ActionHistory(decay=0.0)(given(12, history=history)), newest)


def test_a_sample_without_a_history_has_the_other_scorer_s_scores():
    history = paid(3, 2, 2, 12) * torch.tensor([1.0, 0.0])[:, None, None]
    seen = given(12, [12, 9], history=history)
    scores = ActionHistory(otherwise=scorers.feature_norm)(seen)
    assert scores[1, :9].equal(scorers.feature_norm(seen)[1, :9])
    assert not scores[0].equal(scorers.feature_norm(seen)[0])
    outside = given(12, [12, 9])
    assert ActionHistory(otherwise=scorers.feature_norm)(outside).equal(scorers.feature_norm(outside))


def test_prefill_attention_is_the_mean_over_visual_rows_and_text_rows():
    seen = given(6, [6, 4])
    for i, n in enumerate((6, 4)):
        rows = torch.cat([seen.visual_rows[i, :n, :n], seen.attention[i].mean(0)[:, :n]])
        torch.testing.assert_close(scorers.prefill_attention(seen)[i, :n], rows.mean(0))


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"decay": 1.1}, "decay="), ({"window": 0}, "window="), ({"layer": -1}, "layer="), ({"layer": 1.0}, "layer=")],
)
def test_fields_out_of_range_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ActionHistory(**fields)
