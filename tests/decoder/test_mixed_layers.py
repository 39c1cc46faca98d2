"""Decoders that mix in layers without attention: whose attention is read, second turns, what is refused."""

from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
import torch
from expected_sorting import OLDER
from mapping import tiny_model
from sorting import ARMS, Tiny, is_visual, oracle_of, pruner, pruner_for

from autoprune_lab.decoder import prefill
from autoprune_lab.decoder.mixers import states_of
from autoprune_lab.evidence.evidence import NoAttentionError
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # transformers' own, about default configs
    pytest.mark.skipif(OLDER, reason="older transformers lack some of these models"),
]
CAUSES = ("lfm2_vl", "qwen3_5", "nemotron_h_omni")  # convolution, linear attention, state space
causes = pytest.mark.parametrize("model_type", CAUSES)


@cache
def tiny(model_type):
    one = Tiny(model_type)
    one.batch([one.sample("short")])  # asks the model once how it wants features, before any pruner looks on
    return one


@causes
def test_attention_is_that_of_the_nearest_layer_below_also_after_a_cut(model_type):
    one, sample = tiny(model_type), tiny(model_type).sample("long")
    with torch.no_grad(), pruner("stairs").attach(one.model, keep_indices=True) as trace:
        logits = one.model(**one.batch([sample])).logits[0]
    (record,) = trace.samples
    assert record.attention_from == {1: 1, 3: 1}
    assert record.counts.tolist() == [40, 40, 20, 20, 8, 8]
    n_text = record.geometry.n_text
    rows_by_keys = 2 * (40 + n_text)  # the last row twice, against all that entered layer 1
    assert record.scoring_flops == rows_by_keys * record.geometry.each[1].per_logit
    oracle = oracle_of(one, sample, "last")
    text = ~is_visual(sample.ids)
    torch.testing.assert_close(logits[text], oracle.logits(sample.ids, record.planned)[text], atol=1e-4, rtol=0)
    assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in oracle.kept]


@causes
def test_a_layer_with_no_attention_below_is_refused_by_its_number(model_type):
    one, probing = tiny(model_type), replace(pruner("adaptive"), probe_layer=0)
    with (
        torch.no_grad(),
        pytest.raises(NoAttentionError, match=r"layer 0 has no attention to go by.* first layer with attention is 1"),
        probing.attach(one.model),
    ):
        one.model(**one.batch([one.sample("short")]))


@causes
@pytest.mark.parametrize("arm", ["stairs", "entrance"])
def test_a_second_turn_goes_on_from_the_states_of_the_shorter_prompt(model_type, arm):
    one, sample = tiny(model_type), tiny(model_type).sample("long")
    new = torch.tensor([[7, 8, 9, 10]])
    inputs = one.batch([sample])
    with torch.no_grad(), pruner_for(one, arm).attach(one.model) as trace:
        held = one.model(**inputs).past_key_values
        n_bytes = trace.samples[0].kv_cache_bytes
        assert held.get_seq_length() == len(sample.ids)
        places = {}
        if model_type == "qwen3_5":
            at = torch.arange(4)[None] + len(sample.ids) + one.model.model.rope_deltas
            places = {"position_ids": at.expand(3, 1, -1)}
        logits = one.model(input_ids=new, past_key_values=held, **places).logits[0]
    oracle = oracle_of(one, sample, ARMS[arm][1])
    expected = oracle.logits(torch.cat([sample.ids, new[0]]), trace.samples[0].planned)[-4:]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    states = sum(state.nbytes for layer in held.layers for state in states_of(layer) if state is not None)
    assert 0 < states < n_bytes


@causes
def test_keeping_everything_is_the_model_without_rounding(model_type):
    one = tiny(model_type)
    inputs = lambda: one.batch([one.sample("long"), one.sample("long", seed=1)])  # noqa: E731
    with torch.no_grad(), patch.object(prefill, "must_cut", lambda falls: True):
        expected = one.model(**inputs()).logits
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(one.model):
            np.testing.assert_array_equal(one.model(**inputs()).logits, expected)


def test_an_input_projection_with_a_bias_is_refused():
    model = tiny_model("lfm2_vl", empty=True)
    projection = model.model.language_model.layers[0].conv.in_proj
    projection.bias = torch.nn.Parameter(torch.zeros(projection.out_features, device="meta"))
    with (
        pytest.raises(ValueError, match=r"a bias in the input projection of its \['conv'\] layers"),
        pruner("stairs").attach(model),
    ):
        pass
