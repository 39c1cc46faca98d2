"""TRIM against the official code and in plain loops."""

import pytest
import torch
from given_tensors import counts_of, given, picked
from goldens import goldens
from torch.nn.functional import layer_norm

from autoprune_lab.plugins.plain_evidence import source_of
from autoprune_lab.selection.hiprune import ReceivedAttention
from autoprune_lab.selection.scorers import text_likeness
from autoprune_lab.selection.trim import MeanOfDropped, Trim


@pytest.mark.parametrize("golden", goldens("trim"), ids=str)
def test_is_the_official_code_s(golden):
    features, projection, text = (golden.inputs[name] for name in ("features", "projection", "text"))

    def likeness(evidence):
        return -layer_norm(evidence.tower_features(), features.shape[-1:]) @ projection.T @ text

    seen, n_kept = given(len(features), tower=features, hidden=features), len(golden.outputs["kept"])
    scores = Trim(likeness)(seen)
    survivors = MeanOfDropped()(seen, scores, counts_of(n_kept), counts_of(1))
    golden.check(scores=scores[0], kept=sorted(picked(scores, n_kept)), tokens=survivors.hidden[0, survivors.keep[0]])
    assert survivors.index[0, survivors.keep[0]].tolist()[:-1] == golden.outputs["kept"]


@pytest.mark.parametrize("in_place", [False, True])
def test_equals_plain_loops(in_place):
    counts, kept, merged = [13, 8, 6, 1, 0], [4, 0, 6, 0, 0], [1, 1, 0, 0, 0]
    seen = given(13, counts)
    scores = Trim()(seen)
    survivors = MeanOfDropped(in_place)(seen, scores, counts_of(*kept), counts_of(*merged))
    hidden = seen.hidden if survivors.hidden is None else survivors.hidden
    for i, n in enumerate(counts):
        order = text_likeness(seen)[i, :n].argsort(descending=True).tolist()
        best, rest = order[: kept[i]], order[kept[i] :]
        tokens = {token: seen.hidden[i, token] for token in best}
        if merged[i]:
            tokens[rest[0]] = seen.hidden[i, rest].mean(0)
        places = sorted(tokens) if in_place else sorted(best) + rest[: merged[i]]
        index = seen.index if survivors.index is None else survivors.index
        assert index[i, survivors.keep[i]].tolist() == places
        for token, state in zip(places, hidden[i, survivors.keep[i]], strict=True):
            torch.testing.assert_close(state, tokens[token])


def test_scores_sum_to_one_and_padding_has_none():
    seen = given(6, [6, 2, 0])
    source_of(seen).hidden_[1, 2:] = torch.nan
    scores = Trim()(seen)
    torch.testing.assert_close(scores.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    assert not scores[1, 2:].any()
    assert Trim(ReceivedAttention(3)).tower_layers == (3,)
