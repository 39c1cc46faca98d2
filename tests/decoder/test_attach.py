"""What attaching refuses, and what it leaves behind: nothing."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from arms import state
from tiny_models import PATCHES, batch, sample, tiny_llava
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, StaticCache

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.selection import scorers
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

STAIRS = Pruner(LayerwisePolicy((0.5,), (0.5,)))
ADAPTIVE = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.8), scorer=scorers.cls_attention)


@pytest.fixture
def model():
    model = tiny_llava()
    with torch.no_grad():
        model(**batch([sample(1)]))  # transformers installs hooks of its own in the first call
    return model


def test_nothing_is_left_after_the_block(model):
    before = state(model)
    with torch.no_grad(), ADAPTIVE.attach(model):
        assert state(model) != before
        model.generate(**batch([sample(1)]), max_new_tokens=2)
    assert state(model) == before


def _raise(*arguments):
    raise RuntimeError("planted")


@pytest.mark.parametrize("where", ["scorer", "decoder layer", "vision tower", "block"])
def test_nothing_is_left_after_an_exception(model, where):
    inputs, pruner = batch([sample(1)]), Pruner(STAIRS.policy, scorer=_raise) if where == "scorer" else STAIRS
    broken = {
        "decoder layer": model.get_decoder().layers[1].input_layernorm,  # its attention is armed and never called
        "vision tower": model.base_model.vision_tower.encoder.layers[-1],
    }
    before = state(model)
    with torch.no_grad():
        expected = model(**inputs).logits
        hook = broken[where].register_forward_pre_hook(_raise) if where in broken else None
        with pytest.raises(RuntimeError, match="planted"), pruner.attach(model):
            _raise() if where == "block" else model(**inputs)
        if hook is not None:
            hook.remove()
        assert state(model) == before
        assert torch.equal(model(**inputs).logits, expected)


def test_an_attached_model_works_again_after_an_exception(model):
    inputs = batch([sample(1)])
    calls = []

    def fails_once(evidence):
        calls.append(1)
        return _raise() if len(calls) == 1 else scorers.feature_norm(evidence)

    with torch.no_grad(), Pruner(STAIRS.policy, scorer=fails_once).attach(model) as trace:
        with pytest.raises(RuntimeError, match="planted"):
            model(**inputs)
        model(**inputs)
    assert [s.counts[-1] for s in trace.samples] == [PATCHES // 2]


def test_two_pruned_models_and_a_plain_one_do_not_touch_each_other(model):
    inputs = batch([sample(1), sample(2, n_images=2)])
    arms = {"stairs": (model, STAIRS), "adaptive": (tiny_llava(seed=1), ADAPTIVE), "plain": (tiny_llava(seed=2), None)}

    def generate(arm, times=1):
        own, pruner = arms[arm]
        with torch.no_grad(), pruner.attach(own) if pruner else nullcontext():
            return [own.generate(**inputs, max_new_tokens=12) for _ in range(times)]

    alone = {arm: generate(arm)[0] for arm in arms}
    with ThreadPoolExecutor(len(arms)) as pool:
        together = dict(zip(arms, pool.map(lambda arm: generate(arm, times=5), arms), strict=True))
    assert all(torch.equal(got, alone[arm]) for arm in arms for got in together[arm])
    assert not torch.equal(alone["stairs"], alone["adaptive"])


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
def test_attaching_twice_is_refused_and_harmless(model):
    with STAIRS.attach(model):
        before = state(model)
        with pytest.raises(ValueError, match="already attached"), STAIRS.attach(model):
            pass
        assert state(model) == before


@pytest.mark.parametrize(
    "options",
    [
        {"prefill_chunk_size": 8},
        {"generation_config": GenerationConfig(prefill_chunk_size=8)},
        {"assistant_early_exit": 2},
    ],
)
def test_ways_of_generating_that_would_be_pruned_in_part_are_refused(model, options):
    named = "assistant_early_exit" if "assistant_early_exit" in options else "prefill_chunk_size"
    with STAIRS.attach(model), pytest.raises(ValueError, match=f"{named} is not supported"):
        model.generate(**batch([sample(1)]), max_new_tokens=2, **options)


def _embeddings_only(model):
    model(inputs_embeds=torch.zeros(1, 9, 48))


def _decoder_alone(model):
    model.get_decoder()(inputs_embeds=torch.zeros(1, 9, 48))


def _mask_of_four_axes(model):
    inputs = batch([sample(1)])
    n = inputs["input_ids"].shape[1]
    model(**inputs | {"attention_mask": torch.zeros(1, 1, n, n)})


def _mask_of_another_length(model):
    inputs = batch([sample(1)])
    model(**inputs | {"attention_mask": inputs["attention_mask"][:, 1:]})


def _ids_in_one_row(model):
    model(input_ids=batch([sample(1)])["input_ids"][0])


def _static_masks(model):
    cache = StaticCache(config=model.config.text_config, max_cache_len=64)
    inputs = batch([sample(1)])
    masks = {"full_attention": inputs.pop("attention_mask")}  # what `generate` makes for such a cache
    model(**inputs, attention_mask=masks, past_key_values=cache)


def _tuple_cache(model):
    model(**batch([sample(1)]), past_key_values=())


def _paged(model):
    model.generate(**batch([sample(1)]), max_new_tokens=2, cache_implementation="paged")


def _wide_labels(model):
    inputs = batch([sample(1)])
    model(**inputs, labels=inputs["input_ids"], logits_to_keep=3)


def _copied(model):
    model(**batch([sample(1)]))
    copy.deepcopy(model)


def _pictures_without_tokens(model):
    model(input_ids=torch.tensor([[5, 6]]), pixel_values=sample(1).pixels)


def _foreign_cache(model):
    cache = model(**batch([sample(1)])).past_key_values
    del cache._autoprune_lab_pruned
    model(input_ids=torch.tensor([[5]]), past_key_values=cache)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_embeddings_only, "input_ids"), (_decoder_alone, "input_ids"), (_mask_of_four_axes, r"shape \(1, 1, 28, 28\)"),
        (_pictures_without_tokens, "no visual tokens found"), (_static_masks, "attention_mask is dict: pruning"),
        (_foreign_cache, "start again from the prompt"), (_tuple_cache, "kind tuple"),
        (_mask_of_another_length, r"attention_mask is torch.int64 of shape \(1, 27\), input_ids are"),
        (_ids_in_one_row, r"input_ids are torch.int64 of shape \(28,\)"), (_paged, "continuous batching"),
        (_wide_labels, r"labels have shape \(1, 28\), the logits are \(1, 3\)"), (_copied, "cannot be copied"),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_pruned_are_refused(model, call, message):
    with torch.no_grad(), STAIRS.attach(model), pytest.raises(ValueError, match=message):
        call(model)


def test_cls_attention_without_the_tower_s_states_is_refused(model):
    inputs = batch([sample(1)])
    with torch.no_grad():
        features = model.get_image_features(pixel_values=inputs.pop("pixel_values"), return_dict=True)
        features.hidden_states = None  # some versions of transformers give them unasked
        with ADAPTIVE.attach(model), pytest.raises(ValueError, match="output_hidden_states"):
            model(**inputs, mm_encoder_outputs={"image": features})


@pytest.mark.parametrize(("probe", "message"), [(-2, "at least -1"), (5, "-1 to 4"), (9, "-1 to 4")])
def test_the_probe_layer_is_validated(model, probe, message):
    with pytest.raises(ValueError, match=message), Pruner(STAIRS.policy, probe_layer=probe).attach(model):
        pass


def test_unsupported_models_are_refused_by_what_they_lack(model):
    text = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2, vocab_size=9)
    with pytest.raises(ValueError, match="no image_token_id"), STAIRS.attach(LlamaForCausalLM(text)):
        pass
    model.get_decoder().config.layer_types = ["full_attention"] * 5 + ["linear_attention"]
    with pytest.raises(ValueError, match="linear_attention"), STAIRS.attach(model):
        pass


@pytest.mark.parametrize("pruner", [STAIRS, Pruner(LogisticAdaptivePolicy(x0=3.0))])
def test_nan_in_attention_names_the_layer(model, pruner):
    model.get_decoder().layers[1].self_attn.q_proj.weight.data[0, 0] = torch.nan
    expected = "layer 1" if pruner.policy.adaptive else "layer 2"
    with torch.no_grad(), pruner.attach(model), pytest.raises(ValueError, match=f"{expected} holds NaN"):
        model(**batch([sample(1)]))


def test_an_unreachable_budget_is_refused(model):
    pruner = Pruner(STAIRS.policy, Budget(flops_ratio=0.05))
    with torch.no_grad(), pruner.attach(model), pytest.raises(BudgetError, match=r"0\.05"):
        model(**batch([sample(1)]))
