"""Models that torch.compile or PEFT has wrapped are pruned as the plain one is; a block that prunes nothing says so."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from arms import pruner, state
from tiny_models import IMAGE, LLAVA, PATCHES, batch, sample, tiny_llava
from transformers import DynamicCache

from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.trace.trace import UnprunedWarning
from policies.fixed import FixedPolicy

ARM = pruner("stairs", "original")
KEEP_ALL = Pruner(FixedPolicy(layer=2, keep=1.0))


@pytest.fixture(autouse=True)
def strict():
    """A warning that no test asks for is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprunedWarning)
        yield


@pytest.fixture(scope="module")
def expected():
    model = tiny_llava()
    with torch.no_grad(), ARM.attach(model):
        return model(**batch([sample(1)])).logits, model.generate(**batch([sample(1)]), max_new_tokens=3)


class Tuner(torch.nn.Module):
    """Wraps a model as PEFT's tuners do: its `forward` is called, past the model's own `__call__`."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)

    def forward(self, *args, **kwargs):
        return self.model.forward(*args, **kwargs)


class Peft(torch.nn.Module):
    """Wraps a tuner as a PeftModel does."""

    def __init__(self, model):
        super().__init__()
        self.base_model = Tuner(model)

    def get_base_model(self):
        return self.base_model.model

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def generate(self, *args, **kwargs):
        return self.base_model.generate(*args, **kwargs)


def stale(forward):
    """Stands in for code compiled earlier: runs without its module's hooks, and knows the function it came from."""

    def compiled(*args, **kwargs):
        return forward(*args, **kwargs)

    compiled._torchdynamo_orig_callable = forward
    return compiled


def _in_place(module):
    module._compiled_call_impl = stale(module.forward)  # what `module.compile()` sets


def _forward_only(module):
    written = module.forward

    def skips_hooks(*args, **kwargs):
        hooks = [(one, one._forward_pre_hooks) for one in module.modules()]
        for one, _ in hooks:
            one._forward_pre_hooks = {}
        try:
            return written(*args, **kwargs)
        finally:
            for one, own in hooks:
                one._forward_pre_hooks = own

    skips_hooks._torchdynamo_orig_callable = written
    module.forward = skips_hooks


@pytest.mark.parametrize("part", ["model", "model.language_model", "model.language_model.layers.2"])
@pytest.mark.parametrize("compiled", [_in_place, _forward_only])
def test_what_was_compiled_earlier_runs_as_written(part, compiled, expected):
    model, inputs = tiny_llava(), batch([sample(1)])
    compiled(model.get_submodule(part))
    with torch.no_grad():
        model(**inputs)  # transformers installs hooks of its own in the first call
    before = state(model)
    with torch.no_grad(), ARM.attach(model) as trace:
        assert torch.equal(model(**inputs).logits, expected[0])
    assert trace.samples[0].counts[-1] == 3
    assert state(model) == before


def test_a_model_compiled_earlier_is_pruned_like_the_plain_one():
    family = replace(LLAVA, vision=LLAVA.vision | {"num_hidden_layers": 1})
    model, inputs = family.build(num_hidden_layers=3), batch([sample(1)])
    with torch.no_grad():
        features = model.get_image_features(pixel_values=inputs.pop("pixel_values"), return_dict=True)
    inputs["mm_encoder_outputs"] = {"image": features}
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        before = compiled(**inputs).logits
        with ARM.attach(model):
            expected = model(**inputs).logits
        for attach_to in (model, compiled):
            with ARM.attach(attach_to):
                torch.testing.assert_close(compiled(**inputs).logits, expected, atol=5e-5, rtol=0)
        assert torch.equal(compiled(**inputs).logits, before)
    assert (expected - before).abs().max() > 0.05


@pytest.mark.parametrize("attach_to_wrapper", [True, False])
def test_a_model_in_peft_is_pruned_like_the_plain_one(attach_to_wrapper, expected):
    model, inputs = tiny_llava(), batch([sample(1)])
    wrapped = Peft(model)
    with torch.no_grad(), ARM.attach(wrapped if attach_to_wrapper else model) as trace:
        assert torch.equal(wrapped(**inputs).logits, expected[0])
        assert torch.equal(wrapped.generate(**inputs, max_new_tokens=3), expected[1])
    assert [record.counts[-1] for record in trace.samples] == [3, 3]


def test_a_compiled_wrapper_around_the_decoder_is_refused():
    model = tiny_llava()
    model.model.language_model = torch.compile(model.model.language_model, backend="eager")
    with pytest.raises(ValueError, match="LlamaModel inside the model is wrapped"), ARM.attach(model):
        pass


def test_layers_that_skip_their_hooks_are_refused():
    model = tiny_llava()
    with torch.no_grad(), ARM.attach(model):
        for layer in model.get_decoder().layers:
            layer._forward_pre_hooks.clear()
        with pytest.raises(ValueError, match="0 of 6 decoder layers"):
            model(**batch([sample(1)]))


def test_a_layer_on_its_own_is_refused():
    model = tiny_llava()
    with torch.no_grad(), ARM.attach(model):
        model(**batch([sample(1)]))
        with pytest.raises(ValueError, match="outside its model's forward call"):
            model.get_decoder().layers[0](torch.zeros(1, 3, 48))


@pytest.fixture(scope="module")
def model():
    return tiny_llava()


def _not_called(model):
    pass


def _copy_called(model):
    tiny_llava()(**batch([sample(1)]))


def _text_only(model):
    model.generate(**batch([sample(1, n_images=0)]), max_new_tokens=2)


def _kept_all(model):
    model(**batch([sample(1), sample(2, n_images=0)]))


def _cache_from_outside(model):
    cache = DynamicCache(config=model.config.text_config)
    keys = torch.zeros(1, 2, 3, 12)
    for layer in range(6):
        cache.update(keys, keys, layer)
    model(input_ids=torch.tensor([[5]]), past_key_values=cache)


@pytest.mark.parametrize(
    ("arm", "call", "message"),
    [
        (ARM, _not_called, "not called in this block"),
        (ARM, _copy_called, "not called in this block"),
        (ARM, _text_only, "none of the 1 prompts of this block has visual tokens"),
        (KEEP_ALL, _kept_all, "the plan keeps every visual token of the 2 prompts"),
        (ARM, _cache_from_outside, "a cache that was filled outside the block"),
    ],
)
@torch.no_grad()
def test_a_block_that_prunes_nothing_says_so(model, arm, call, message):
    with pytest.warns(UnprunedWarning, match=message) as told, arm.attach(model):
        call(model)
    assert len(told) == 1


@torch.no_grad()
def test_one_pruned_prompt_is_enough(model):
    with ARM.attach(model):
        model(**batch([sample(1, n_images=0)]))
        model(**batch([sample(1), sample(2, n_images=0)]))


@torch.no_grad()
def test_a_block_says_nothing_where_an_exception_did_or_a_pruned_prompt_goes_on(model):
    with pytest.raises(RuntimeError, match="planted"), ARM.attach(model):
        raise RuntimeError("planted")
    with ARM.attach(model), pytest.raises(ValueError, match="no visual tokens found"):
        model(input_ids=torch.tensor([[5, 6]]), pixel_values=sample(1).pixels)
    with ARM.attach(model):
        cache = model(**batch([sample(1)])).past_key_values
    with ARM.attach(model):
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)


@torch.no_grad()
def test_pictures_of_a_second_turn_are_told(model):
    first, second = batch([sample(1)]), batch([sample(2, n_images=2)])
    ids, mask = second.pop("input_ids"), second.pop("attention_mask")
    mask = torch.cat([first["attention_mask"], mask], dim=1)
    later = {"input_ids": ids, "attention_mask": mask, "pixel_values": second["pixel_values"]}
    with pytest.warns(UnprunedWarning, match="32 visual tokens were kept whole"), ARM.attach(model) as trace:
        model(**later, past_key_values=model(**first).past_key_values)
    assert trace.late_vision == [2 * PATCHES]
    assert len(trace.samples) == 1


@torch.no_grad()
def test_pictures_behind_the_prompt_are_told(model):
    with (
        pytest.warns(UnprunedWarning, match="16 visual tokens were kept whole"),
        ARM.attach(model, n_prompt=28) as trace,
    ):
        model(**batch([sample(2, n_images=2)]))
    assert trace.late_vision == [PATCHES]
    assert trace.samples[0].geometry.n_vision == PATCHES


@pytest.mark.parametrize("again", [KEEP_ALL, ARM])
@torch.no_grad()
def test_a_prompt_on_a_pruned_cache_is_refused(model, again):
    with ARM.attach(model):
        cache = model(**batch([sample(1)])).past_key_values
    with again.attach(model), pytest.raises(ValueError, match="a new prompt needs a new cache"):
        model(**batch([sample(1)]), past_key_values=cache)


@torch.no_grad()
def test_a_second_thread_at_the_same_time_is_refused(model):
    inside, leave = threading.Event(), threading.Event()

    def slow(evidence):
        inside.set()
        leave.wait(60)
        return scorers.feature_norm(evidence)

    def generate():
        with torch.no_grad():
            return model.generate(**batch([sample(1)]), max_new_tokens=2)

    with Pruner(ARM.policy, scorer=slow).attach(model) as trace, ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate)
        assert inside.wait(60)
        for call in (generate, lambda: model(**batch([sample(1)]))):
            with pytest.raises(ValueError, match="two threads"):
                call()
        leave.set()
        assert torch.equal(running.result(), generate())
    assert len(trace.samples) == 2
    assert IMAGE not in running.result()[0, -2:]
