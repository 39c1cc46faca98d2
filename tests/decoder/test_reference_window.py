"""Layers whose tokens see the whole prompt, and of what follows it a window (Unlimited-OCR): decoding far beyond it."""

from functools import cache

import pytest
import torch
from arms import ARMS
from expected_sorting import OLDER
from mapping import IMAGE
from sorting import Tiny, oracle_of, owner, pruner
from transformers.cache_utils import DynamicCache

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.masks import Keys, causal_mask
from autoprune_lab.decoder.prefix import read_prefix
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace.trace import UnprunedWarning
from policies.fixed import FixedPolicy

pytestmark = [pytest.mark.skipif(OLDER, reason="of transformers 5.23"), pytest.mark.filterwarnings("ignore")]
WINDOW, STEPS = 3, 9


class Narrow(Tiny):
    """The type, with a window that is soon left."""

    def build(self, attention=None):
        """See `Tiny`."""
        model = super().build(attention)
        owner(model).config.sliding_window = WINDOW
        return model


@cache
def tiny():
    return Narrow("unlimited_ocr")


def sample(seed=1):
    return tiny().sample("long", seed=seed)


def config():
    return owner(tiny().model).config


@torch.no_grad()
def generate(samples, arm=None, **options):
    """Tokens decoded, their logits if there are any, and the trace."""
    given = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "suppress_tokens": [0, IMAGE]}
    told = {"return_dict_in_generate": True, "output_logits": True}
    arm, inputs = arm or pruner("stairs"), tiny().batch(samples)
    with arm.attach(tiny().model, keep_indices=True) as trace:
        out = tiny().model.generate(**inputs, **given | told | options)
    return out.sequences[:, -STEPS:], torch.stack(out.logits, 1), trace, out.past_key_values


def close(a, b):
    return torch.allclose(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("arm", ["stairs", "entrance"])
def test_every_step_far_beyond_the_window_is_the_oracle_s(arm, positions):
    answer, logits, trace, cache = generate([sample()], pruner(arm, positions))
    oracle = oracle_of(tiny(), sample(), ARMS[arm][1], positions)
    ids = torch.cat([sample().ids, answer[0, :-1]])
    assert close(logits[0], oracle.logits(ids, trace.samples[0].planned)[-STEPS:])
    n_text = trace.samples[0].geometry.n_text
    for layer, count in zip(cache.layers, trace.samples[0].counts, strict=True):
        assert layer.prefill_length == layer.prefill_keys.shape[2] == count + n_text
        assert layer.keys.shape[2] == WINDOW - 1


def test_the_window_matters():
    _, narrow, *_ = generate([sample()])
    config().sliding_window = 24
    try:
        _, wide, *_ = generate([sample()])
    finally:
        config().sliding_window = WINDOW
    assert close(narrow[:, :WINDOW], wide[:, :WINDOW])
    assert (narrow[:, -1] - wide[:, -1]).abs().max() > 1e-2


@torch.no_grad()
def test_keeping_all_decodes_what_the_stock_model_decodes(monkeypatch):
    monkeypatch.setattr("autoprune_lab.decoder.prefill.must_cut", lambda falls: True)
    answer, logits, *_ = generate([sample()], Pruner(FixedPolicy(layer=2, keep=1.0)))
    out = tiny().model.generate(
        **tiny().batch([sample()]), max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False,
        suppress_tokens=[0, IMAGE], return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    assert torch.equal(out.sequences[:, -STEPS:], answer)
    assert torch.allclose(torch.stack(out.logits, 1), logits, atol=1e-6, rtol=0)


def test_candidates_behind_the_prompt_are_no_part_of_it():
    expected, _, trace, _ = generate([sample()])
    answer, _, again, _ = generate([sample()], prompt_lookup_num_tokens=2)
    assert torch.equal(answer, expected)
    assert [s.counts.tolist() for s in again.samples] == [s.counts.tolist() for s in trace.samples]


def test_beams_are_those_of_the_prompts_alone():
    both = [sample(1), sample(2)]
    together, *_ = generate(both, num_beams=2)
    for i, one in enumerate(both):
        assert torch.equal(generate([one], num_beams=2)[0][0], together[i])


def test_padding_that_the_stock_model_shows_again_is_hidden_where_a_layer_is_cut():
    """Its mask reads a row's padding so many columns late as its window has let tokens go."""
    both = [sample(), tiny().sample("short", seed=2)]

    def differences(arm):
        together, alone = generate(both, arm)[1][1], generate(both[1:], arm)[1][0]
        return (together - alone).abs().amax(-1)

    with pytest.warns(UnprunedWarning):
        stock = differences(Pruner(FixedPolicy(layer=2, keep=1.0)))
    assert stock[: WINDOW + 1].max() < 1e-4
    assert stock[WINDOW + 1] > 1e-2
    assert differences(pruner("entrance")).max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("declared", [True, False])
def test_a_turn_longer_than_the_window(declared):
    turn = torch.tensor([[7, 9, 11, 13, 15, 17]])
    inputs, net = tiny().batch([sample()]), tiny().model
    held = DynamicCache(config=config())
    if declared:  # as `generate` does
        for layer in held.layers:
            layer.set_prefill_length(inputs["input_ids"].shape[1])
    with pruner("stairs").attach(net) as trace:
        net(**inputs, past_key_values=held, use_cache=True)
        logits = []
        for tokens in (turn[:, :1], turn[:, 1:]):
            mask = torch.ones(1, held.get_seq_length() + tokens.shape[1])
            logits.append(net(input_ids=tokens, attention_mask=mask, past_key_values=held).logits[0])
    ids = torch.cat([sample().ids, turn[0]])
    expected = oracle_of(tiny(), sample(), "last").logits(ids, trace.samples[0].planned)
    assert close(torch.cat(logits), expected[-turn.shape[1] :])


@torch.no_grad()
def test_text_that_is_taken_back_comes_again_as_the_prompt_s():
    inputs, net, held = tiny().batch([sample()]), tiny().model, DynamicCache(config=config())
    with pruner("stairs").attach(net):
        expected = net(**inputs, past_key_values=held, use_cache=True).logits[0, -5:]
        held.crop(-5)
        again = net(
            input_ids=inputs["input_ids"][:, -5:], attention_mask=inputs["attention_mask"], past_key_values=held
        ).logits[0]
    assert close(again, expected)


@torch.no_grad()
def test_a_cache_that_lets_nothing_go_shows_everything():
    """Without its config a cache has plain layers; the stock model's mask then knows of no window."""
    turn = torch.tensor([[7, 9, 11, 13, 15, 17]])
    inputs, net, held = tiny().batch([sample()]), tiny().model, DynamicCache()
    with pruner("stairs").attach(net) as trace:
        net(**inputs, past_key_values=held, use_cache=True)
        mask = torch.ones(1, held.get_seq_length() + turn.shape[1])
        logits = net(input_ids=turn, attention_mask=mask, past_key_values=held).logits[0]
    unbounded = Tiny("unlimited_ocr")  # the same weights, a window of 24
    ids = torch.cat([sample().ids, turn[0]])
    expected = oracle_of(unbounded, sample(), "last").logits(ids, trace.samples[0].planned)
    assert close(logits, expected[-turn.shape[1] :])


def test_bytes_of_the_cache_are_those_of_the_prompt():
    *_, trace, cache = generate([sample()])
    held = sum(layer.prefill_keys.nbytes + layer.prefill_values.nbytes for layer in cache.layers)
    assert trace.samples[0].kv_cache_bytes == held


def test_its_prefix_is_not_resumed():
    assert read_prefix(tiny().model, tiny().batch([sample()]), 1) is None
    assert Anatomy.of(tiny().model).refers(0)


def test_the_first_keys_are_seen_from_any_distance():
    keys = Keys(torch.ones(1, 9, dtype=torch.bool), torch.tensor([[0, 1, 5, 9, 10, 11, 12, 13, 14]]))
    held = keys.held(6, n_first=3)
    assert held.index.tolist() == [[0, 1, 5, 12, 13, 14]]
    assert keys.held(4).index.tolist() == [[11, 12, 13, 14]]
    assert keys.held(9, n_first=12).index.tolist() == keys.index.tolist()
    mask = causal_mask(held, 2, window=2, implementation="sdpa", dtype=torch.float32, n_first=3)
    assert mask.int().tolist() == [[[[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 1, 1]]]]
