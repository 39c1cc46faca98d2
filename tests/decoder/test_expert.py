"""pi0: the prompt's decoder is pruned, and every layer of the action expert sees what its own of the prompt kept."""

import re

import pytest
import torch
from acting import CHUNK, N_PATCHES, Acting, ActingOracle
from arms import ARMS, CLOSE, pruner, state
from expected_sorting import OLDER

from autoprune_lab.decoder import expert, masks, prefill
from autoprune_lab.decoder.anatomy import geometry_by, geometry_of
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.trace.trace import UnprunedWarning
from policies.fixed import FixedPolicy

pytestmark = pytest.mark.skipif(OLDER, reason="pi0 is compared in transformers 5.23")

PI0 = Acting()
SAMPLES = [PI0.sample("long", 1), PI0.sample("short", 2), PI0.sample("short", 3, cameras=1)]


def acted(inputs, arm=None, **attach):
    """The actions, and the trace where an arm prunes."""
    if arm is None:
        return PI0.model.sample_actions(**inputs), None
    with arm.attach(PI0.model, **attach) as trace:
        return PI0.model.sample_actions(**inputs), trace


def alone(sample):
    return PI0.batch([sample])


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
@pytest.mark.parametrize("first", [2, 0])
def test_keeping_all_through_the_gather_path_changes_no_bit(monkeypatch, first):
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
    keep = Pruner(FixedPolicy(layer=first, keep=1.0), scorer=scorers.feature_norm, probe_layer=first - 1)
    for inputs in (alone(SAMPLES[0]), PI0.batch(SAMPLES, "left")):
        stock, _ = acted(inputs)
        assert torch.equal(acted(inputs, keep)[0], stock)
    inputs = PI0.batch(SAMPLES, "right")  # moved to the other side: added up in another order
    torch.testing.assert_close(acted(inputs, keep)[0], acted(inputs)[0], atol=5e-6, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("arm", ["stairs", "adaptive", "entrance"])
def test_a_ragged_batch_acts_as_the_masked_reference(arm, side):
    inputs = PI0.batch(SAMPLES, side)
    actions, trace = acted(inputs, pruner(arm, "original"))
    stock, _ = acted(inputs)
    assert (actions - stock).abs().amax((1, 2)).min() > 1e-2
    for one, sample, record in zip(actions, SAMPLES, trace.samples, strict=True):
        expected = ActingOracle(PI0, sample, ARMS[arm][1]).actions(record.planned)
        torch.testing.assert_close(one, expected, **CLOSE)


def _shifted(mask, stage):
    return masks.narrow_keys(mask, stage).roll(1, dims=3)


@pytest.mark.parametrize("bug", [_shifted, lambda mask, stage: mask[..., -stage.index.shape[1] - CHUNK - 1 :]])
def test_a_mask_of_other_keys_would_be_noticed(monkeypatch, bug):
    monkeypatch.setattr(expert, "narrow_keys", bug)
    actions, trace = acted(PI0.batch(SAMPLES), pruner("stairs", "original"))
    off = [
        (one - ActingOracle(PI0, sample, "last").actions(record.planned)).abs().max()
        for one, sample, record in zip(actions, SAMPLES, trace.samples, strict=True)
    ]
    assert max(off) > 1e-2


@pytest.mark.parametrize("scorer", [scorers.last_token_attention, scorers.cls_attention])
def test_a_sample_acts_alone_as_in_a_batch_with_cameras_that_it_lacks(scorer):
    arm = Pruner(FixedPolicy(layer=2, keep=0.3), scorer=scorer)
    together, trace = acted(PI0.batch(SAMPLES), arm, keep_indices=True)
    for one, sample, record in zip(together, SAMPLES, trace.samples, strict=True):
        (actions,), own = acted(alone(sample), arm, keep_indices=True)
        (single,) = own.samples
        torch.testing.assert_close(one, actions, **CLOSE)
        assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in single.kept]
        assert record.flops_ratio == single.flops_ratio < 0.8


def test_prompts_without_a_mask_keep_the_positions_that_the_model_gives_them():
    inputs = alone(SAMPLES[0])
    del inputs["attention_mask"]
    arm = pruner("entrance", "original")
    actions, trace = acted(inputs, arm)
    masked, _ = acted(alone(SAMPLES[0]), arm)
    assert trace.samples[0].flops_ratio < 1
    assert (actions - masked).abs().max() > 1e-3  # the stock model counts from 1 there, and the expert from 0


def test_a_layer_s_keys_are_those_it_kept_and_one_step_is_one_pass():
    inputs = PI0.batch(SAMPLES)
    with torch.no_grad(), pruner("stairs", "original").attach(PI0.model) as trace:
        output = PI0.model(**inputs, timestep=torch.ones(len(SAMPLES)))
    lengths = [layer.keys.shape[2] for layer in output.past_key_values.layers]
    longest = [max(r.counts[i] + r.geometry.n_text for r in trace.samples) for i in range(len(lengths))]
    assert lengths == [n + 1 + CHUNK for n in longest]  # the robot's state and its actions come behind them
    assert lengths[-1] < lengths[0]
    with pruner("stairs", "original").attach(PI0.model):
        actions = PI0.model.sample_actions(**inputs, num_steps=1)
    torch.testing.assert_close(actions, inputs["noise"] - output.logits, **CLOSE)


def test_its_costs_are_those_of_the_prompt_s_decoder():
    assert geometry_by(PI0.model.config) == geometry_of(PI0.model)
    _, trace = acted(alone(SAMPLES[0]), pruner("stairs", "original"))
    assert trace.samples[0].geometry.n_vision == 3 * N_PATCHES
    assert trace.samples[0].vision_flops > 0


def test_nothing_stays_on_the_model_after_an_exception_either():
    before = state(PI0.model)
    arm = Pruner(FixedPolicy(layer=2, keep=0.3), scorer=lambda evidence: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        acted(alone(SAMPLES[0]), arm)
    assert state(PI0.model) == before


@pytest.mark.parametrize(
    ("attach", "said"),
    [
        (
            {"n_prompt": 3},
            "n_prompt tells a prompt from its answer, and PI0ForConditionalGeneration answers in actions",
        ),
        ({"history": [()]}, "a history tells what the words of earlier answers looked at"),
    ],
)
def test_what_only_answers_in_words_have_is_refused(attach, said):
    with pytest.raises(ValueError, match=said), pruner("stairs", "original").attach(PI0.model, **attach):
        pass


def test_compact_positions_are_refused_since_the_expert_counts_on():
    with pytest.raises(ValueError, match="the action expert of PI0ForConditionalGeneration counts its places"):
        pruner("stairs", "compact").attach(PI0.model).__enter__()


def test_windows_and_flash_attention_are_refused(monkeypatch):
    config = PI0.model.model.vlm.language_model.config
    monkeypatch.setattr(config, "layer_types", ["sliding_attention", *["full_attention"] * 5], raising=False)
    with pytest.raises(ValueError, match=re.escape("reads the cache of ['sliding_attention'] layers")):
        pruner("stairs", "original").attach(PI0.model).__enter__()
    monkeypatch.delattr(config, "layer_types")
    monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(ValueError, match="cannot hide actions from the robot's state"):
        pruner("stairs", "original").attach(PI0.model).__enter__()


def test_embeddings_of_unknown_prompts_are_refused():
    inputs = alone(SAMPLES[0])
    ids, pixels, seen = (inputs.pop(name) for name in ("input_ids", "pixel_values", "pixel_attention_mask"))
    embeds = PI0.model.model.embed_prefix(ids, pixels, seen)
    with pytest.raises(ValueError, match="by input_ids"), pruner("stairs", "original").attach(PI0.model):
        PI0.model(**inputs, inputs_embeds=embeds, pixel_values=pixels, pixel_attention_mask=seen)


def test_a_cache_from_outside_the_block_is_told_of():
    inputs = alone(SAMPLES[0])
    with torch.no_grad():
        cache = PI0.model(**inputs).past_key_values
        cache.crop(-CHUNK - 1)
        later = {name: inputs[name] for name in ("state", "noise", "attention_mask", "pixel_attention_mask")}
        with (
            pytest.warns(UnprunedWarning, match="a cache that was filled outside the block"),
            pruner("stairs", "original").attach(PI0.model),
        ):
            PI0.model(**later, past_key_values=cache)


def test_an_expert_that_was_compiled_before_is_run_as_written(untyped):
    inputs, arm = alone(SAMPLES[0]), pruner("stairs", "original")
    expected, _ = acted(inputs, arm)
    decoder = PI0.model.model.dit
    decoder.compile(backend="eager")
    try:
        PI0.model.sample_actions(**inputs)
        torch.testing.assert_close(acted(inputs, arm)[0], expected, **CLOSE)
    finally:
        decoder._compiled_call_impl = None
