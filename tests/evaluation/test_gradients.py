"""Straight-through gradients to the counts, against differences of the run that they are of."""

from dataclasses import replace

import numpy as np
import pytest
from answering import answering

from autoprune_lab.evaluation import gradients as module
from autoprune_lab.evaluation.divergence import log_probabilities
from autoprune_lab.evaluation.gradients import count_gradients, unpruned_logs
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.scorers import last_token_attention, text_attention
from autoprune_lab.tasks.shapes import ShapesTask
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

CURVE = Pruner(LogisticAdaptivePolicy(k0=0.3, gamma=0.1, x0=12.0), Budget(flops_ratio=0.5), probe_layer=0)
STAIRS = Pruner(LayerwisePolicy((0.34, 0.67), (0.4, 0.1)), scorer=text_attention, probe_layer=0)


@pytest.fixture(scope="module")
def vlm():
    return answering(6)


@pytest.fixture(scope="module")
def prepared(vlm):
    return prepare(vlm, ShapesTask("tune", 2), batch_size=8)


@pytest.fixture(scope="module")
def whole(vlm, prepared):
    return unpruned_logs(vlm, prepared)


def likeness(logs, whole):
    return np.exp((np.exp(whole) * (logs - whole)).sum(1))


@pytest.mark.parametrize("pruner", [CURVE, STAIRS], ids=["curve", "stairs"])
def test_the_gradient_points_where_more_tokens_help(vlm, prepared, whole, pruner, monkeypatch):
    """By differences of the same run with 8 tokens more and 8 fewer in one layer; its value is the pruned run's."""
    calls, gated = [], module.gated_log_probabilities
    monkeypatch.setattr(module, "gated_log_probabilities", lambda *given: calls.append(given) or gated(*given))
    found = count_gradients(vlm, prepared, pruner, whole, False)
    assert found.shape == (len(prepared.samples), 6)
    slopes, places = [], []
    for batch, (_, given, kept, ranks) in zip(prepared.batches, calls, strict=True):
        theirs = whole[list(batch.places)]
        logs = gated(vlm, given, kept, ranks)[0].detach().numpy()
        np.testing.assert_allclose(logs, log_probabilities(vlm, batch, pruner).numpy(), atol=2e-4)
        for layer in np.flatnonzero((kept < kept[0, 0]).any(0)):
            ends = [kept + side * (np.arange(6) == layer) for side in (8, -8)]
            more, less = (gated(vlm, given, n.clip(0, kept[0, 0]), ranks)[0].detach().numpy() for n in ends)
            wide = (ends[0].clip(0, kept[0, 0]) - ends[1].clip(0, kept[0, 0]))[:, layer]
            slopes.append((likeness(more, theirs) - likeness(less, theirs)) / wide)
            places.append((list(batch.places), int(layer)))
    gradients = np.concatenate([found[rows, layer] for rows, layer in places])
    slopes = np.concatenate(slopes)
    assert np.corrcoef(gradients, slopes)[0, 1] > 0.6
    strong = np.abs(slopes) > np.quantile(np.abs(slopes), 0.75)
    assert (np.sign(gradients[strong]) == np.sign(slopes[strong])).mean() > 0.8


def test_a_gradient_does_not_depend_on_the_batch(vlm, prepared, whole):
    alone = prepare(vlm, ShapesTask("tune", 2), batch_size=3)
    found = [count_gradients(vlm, one, STAIRS, whole, False) for one in (prepared, alone)]
    np.testing.assert_allclose(*found, rtol=0.01, atol=1e-7)
    assert np.abs(found[0]).max() > 1e-5


def test_layers_in_which_nothing_is_dropped_have_none(vlm, prepared, whole):
    assert (count_gradients(vlm, prepared, STAIRS, whole, False)[:, :2] == 0).all()
    keep_all = replace(STAIRS, policy=LayerwisePolicy((0.34, 0.67), (1.0, 1.0)))
    assert (count_gradients(vlm, prepared, keep_all, whole, False) == 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"recovery": ContextualMerge()}, "recovery=drop"), ({"positions": "compact"}, "pruner.positions=original")],
)
def test_what_has_no_gradient_is_refused(vlm, prepared, whole, changed, said):
    with pytest.raises(ValueError, match=said):
        count_gradients(vlm, prepared, replace(STAIRS, scorer=last_token_attention, **changed), whole, False)
