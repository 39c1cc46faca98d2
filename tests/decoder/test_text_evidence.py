"""Hidden states of the text rows, against the stock model's own, before and after a cut."""

from dataclasses import replace

import pytest
import torch
from arms import mixed, model, seen_by
from families import FAMILIES, IMAGE

from autoprune_lab.evidence.complexity import constant, mutual_information
from autoprune_lab.evidence.evidence import NoAttentionError
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection import scorers
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy


@torch.no_grad()
def seen(name, samples, **arm):
    """The evidence that the estimator and the scorer of a pruner are given, with text already read; the trace."""
    shown = []

    def keeping(inner):
        return seen_by(lambda evidence: (evidence.text, inner(evidence))[1], shown)

    adaptive = Pruner(LogisticAdaptivePolicy(k0=1.0, x0=1.5), Budget(flops_ratio=0.7), keeping(scorers.feature_norm))
    pruner = replace(adaptive, **{"complexity": keeping(constant)} | arm)
    with pruner.attach(model(name)) as trace:
        model(name)(**FAMILIES[name].batch(samples))
    return shown, trace.samples


@torch.no_grad()
def stock(name, sample):
    """The stock model's hidden states of one prompt's text rows: (layers + 1, rows, hidden), embeddings first."""
    out = model(name)(**FAMILIES[name].batch([sample]), output_hidden_states=True)
    rows = (sample.ids != IMAGE) & ((sample.ids == IMAGE).cumsum(0) > 0)
    return torch.stack(out.hidden_states)[:, 0, rows]


@pytest.mark.parametrize("probe_layer", [-1, 0, 2])
@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "gemma3"])
def test_they_are_those_of_the_stock_model(name, probe_layer):
    (evidence, *_), _ = seen(name, mixed(name), probe_layer=probe_layer)
    assert evidence.layer == probe_layer
    for i, sample in enumerate(mixed(name)):
        expected = stock(name, sample)[probe_layer + 1]
        n_rows = len(expected)
        assert evidence.text_mask[i].tolist() == [j < n_rows for j in range(evidence.text_mask.shape[1])]
        torch.testing.assert_close(evidence.text[i, :n_rows], expected, atol=5e-5, rtol=0)
        assert not evidence.text[i, n_rows:].any()


@torch.no_grad()
@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "gemma3"])
def test_normed_they_are_what_the_decoder_would_end_with(name):
    net, shown = model(name), []

    def read(evidence):
        shown.append((evidence, evidence.normed("vision"), evidence.normed("text")))
        return scorers.uniform(evidence)

    with Pruner(FixedPolicy(layer=2, keep=0.5), scorer=read).attach(net):
        net(**FAMILIES[name].batch(mixed(name)))
    ((evidence, *found),) = shown
    assert evidence.n_layers == len(net.get_decoder().layers)
    masks = (evidence.vision_mask, evidence.text_mask)
    for states, normed, mask in zip((evidence.hidden, evidence.text), found, masks, strict=True):
        expected = net.get_decoder().norm(states)
        torch.testing.assert_close(normed, expected * mask[..., None])
        assert not torch.allclose(normed, states)


def test_after_an_opening_the_rows_are_those_that_saw_what_it_left():
    opened = Budget(flops_ratio=0.5, opening=8)
    shown, traced = seen("llava", mixed("llava"), budget=opened, probe_layer=1, opening_scorer=scorers.feature_norm)
    probe = shown[0]
    assert probe.layer == 1
    assert {int(sample.counts[0]) for sample in traced} == {0, 8}
    expected, before = stock("llava", mixed("llava")[0])[2], probe.text[0, : probe.text_mask[0].sum()]
    assert before.shape == expected.shape
    assert not torch.allclose(before, expected, atol=1e-3)  # they saw 8 of 16 visual tokens


def test_reading_them_costs_nothing():
    _, traced = seen("llava", mixed("llava"), probe_layer=1)
    assert [sample.scoring_flops for sample in traced] == [0] * 4


def test_before_layer_0_an_estimator_of_attention_is_told_what_there_is():
    with pytest.raises(NoAttentionError, match="nor has an estimator"):
        seen("llava", mixed("llava"), probe_layer=-1, complexity=mutual_information)
