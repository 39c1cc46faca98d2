"""Decoders whose layers ask for more than a mask and a rotary embedding, against the oracle; and those refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from arms import ARMS, CLOSE, pruner
from decoders import DECODERS, LAST_FULL, LAYERED
from families import FAMILIES, IMAGE, TEXT, WHOLE, WINDOW
from oracle import Oracle
from transformers.modeling_outputs import BaseModelOutput

from autoprune_lab.decoder import prefill
from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.positions import reads_positions
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy

pytestmark = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")  # one prompt is text alone
STEPS = 8
LOOSE = {"gemma4": {"atol": 2e-4, "rtol": 0}}  # logits of attention are not scaled down there, so rounding grows
CASES = [(name, "stairs", "original") for name in DECODERS if name != "llama4"] + [
    (name, arm, "compact") for name, arm in (("ministral3", "stairs"), ("muse", "entrance"), ("gemma2", "adaptive"))
]


@cache
def model(name):
    return DECODERS[name].build("eager" if name == "gemma2" else "sdpa")


def prompts(family):
    return [family.sample(1), family.sample(2, n_images=2, before=3, after=5), family.sample(3, n_images=0)]


@torch.no_grad()
def assert_decodes_as_the_oracle(family, net, samples, arm, positions="original", close=CLOSE):
    with pruner(arm, positions).attach(net, keep_indices=True) as trace:
        out = net.generate(
            **family.batch(samples), max_new_tokens=STEPS, min_new_tokens=STEPS, suppress_tokens=[IMAGE],
            do_sample=False, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    for i, (one, record) in enumerate(zip(samples, trace.samples, strict=True)):
        own = Oracle(family, one, ARMS[arm][1], positions)
        expected = own.logits(torch.cat([one.ids, out.sequences[i, -STEPS:-1]]), record.planned)
        torch.testing.assert_close(torch.stack([step[i] for step in out.logits]), expected[-STEPS:], **close)
        assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in own.kept]
        np.testing.assert_array_equal(record.counts, record.planned)
        assert (record.counts[-1] < record.geometry.n_vision) == bool(record.geometry.n_vision)


@pytest.mark.parametrize(("name", "arm", "positions"), CASES)
def test_a_batch_decodes_as_the_oracle(name, arm, positions):
    close = LOOSE.get(name, CLOSE)
    assert_decodes_as_the_oracle(DECODERS[name], model(name), prompts(DECODERS[name]), arm, positions, close)


@pytest.mark.parametrize("arm", ["stairs", "entrance"])
def test_chunks_and_temperature_go_by_the_place_before_any_cut(arm):
    """One prompt at a time: this decoder counts padding as places, unpruned too."""
    for one in prompts(DECODERS["llama4"])[:2]:
        assert_decodes_as_the_oracle(DECODERS["llama4"], model("llama4"), [one], arm)


def test_chunks_begin_at_each_prompt_s_first_token():
    text = DECODERS["llama4"].text | {"attn_temperature_tuning": False}
    family = replace(DECODERS["llama4"], text=text)
    assert_decodes_as_the_oracle(family, family.build(), prompts(family), "stairs")


@torch.no_grad()
def test_a_second_turn_goes_on_counting_places():
    family, net, new = DECODERS["llama4"], model("llama4"), torch.tensor([7, 8, 9, 10])
    for arm in ("stairs", "entrance"):
        one = prompts(family)[1]
        with pruner(arm, "original").attach(net) as trace:
            cached = net(**family.batch([one])).past_key_values
            positions = torch.arange(len(one.ids), len(one.ids) + len(new))[None]
            logits = net(input_ids=new[None], past_key_values=cached, position_ids=positions).logits[0]
        expected = Oracle(family, one, ARMS[arm][1]).logits(torch.cat([one.ids, new]), trace.samples[0].planned)
        torch.testing.assert_close(logits, expected[-len(new) :], **CLOSE)


@pytest.mark.parametrize("name", DECODERS)
def test_keep_all_through_the_gather_path_equals_the_unpruned_model(monkeypatch, name):
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
    inputs = DECODERS[name].batch(prompts(DECODERS[name]))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = model(name)(**inputs).logits[real]
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(model(name)):
            assert torch.equal(model(name)(**inputs).logits[real], expected)


def test_an_input_of_each_layer_follows_the_tokens():
    net, samples = LAYERED.build(), prompts(LAYERED)
    inputs = LAYERED.batch(samples, "right")
    with torch.no_grad(), pruner("stairs", "original").attach(net) as trace:
        logits = net(**inputs).logits
    for row, mask, one, record in zip(logits, inputs["attention_mask"].bool(), samples, trace.samples, strict=True):
        expected = Oracle(LAYERED, one, "last").logits(one.ids, record.planned)
        text = one.ids != IMAGE
        torch.testing.assert_close(row[mask][text], expected[text], **LOOSE["gemma4"])


def test_only_layers_that_read_positions_are_given_them():
    given = {name: reads_positions(model(name).get_decoder().layers[0]) for name in DECODERS}
    assert [name for name in given if given[name]] == ["ministral3", "mistral4"]


def test_nothing_is_left_on_a_decoder_that_counts_places():
    attention = model("llama4").get_decoder().layers[2].self_attn
    before = dict(vars(attention)), list(attention.q_proj._forward_hooks)
    with torch.no_grad(), pruner("stairs", "original").attach(model("llama4")):
        assert not attention.attn_temperature_tuning
        model("llama4")(**DECODERS["llama4"].batch(prompts(DECODERS["llama4"])[:1]))
    assert (dict(vars(attention)), list(attention.q_proj._forward_hooks)) == before


def llama4_itself():
    config = hf.Llama4Config(
        text_config=TEXT | DECODERS["llama4"].text, image_token_index=IMAGE,
        vision_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
                       "image_size": 16, "patch_size": 4, "vision_output_dim": 32, "projector_input_dim": 32,
                       "projector_output_dim": 32},
    )  # fmt: skip
    return hf.Llama4ForConditionalGeneration(config).eval()


def test_a_decoder_under_model_is_found_and_pruned(monkeypatch):
    net, ids = llama4_itself(), torch.tensor([[5, 6, *[IMAGE] * 16, 7, 8, 9]])
    assert Anatomy.of(net).layers is net.language_model.model.layers
    features = BaseModelOutput(last_hidden_state=torch.randn(1, 16, 32))
    with torch.no_grad():
        expected = net(input_ids=ids, mm_encoder_outputs={"image": features}).logits
        with pruner("stairs", "original").attach(net) as trace:
            net(input_ids=ids, mm_encoder_outputs={"image": features})
        monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(net):
            assert torch.equal(net(input_ids=ids, mm_encoder_outputs={"image": features}).logits, expected)
    assert trace.samples[0].counts.tolist() == [16, 16, 8, 8, 3, 3]


def _with_text(model_type, **text):
    return replace(FAMILIES["llava"], text={"model_type": model_type} | text).build()


GEMMA3N = {
    "layer_types": LAST_FULL, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "laurel_rank": 4,
    "intermediate_size": [80] * 6, "activation_sparsity_pattern": [0.0] * 6,
}  # fmt: skip


def gemma4_that_shares():
    return _with_text(
        "gemma4_text", sliding_window=WINDOW, layer_types=LAST_FULL, global_head_dim=12, hidden_size_per_layer_input=0,
        num_kv_shared_layers=2,
    )  # fmt: skip


def encoder_decoder():
    class WithEncoder(hf.LlavaForConditionalGeneration):
        def forward(self, input_ids=None, decoder_input_ids=None, **kwargs):
            """What diffusion_gemma's and T5's take."""

    config = hf.LlavaConfig(
        text_config=TEXT | {"model_type": "llama"}, vision_config=WHOLE | {"model_type": "clip_vision_model"},
        image_token_id=IMAGE,
    )  # fmt: skip
    return WithEncoder(config)


REFUSED = {
    "2 of its 6 decoder layers reuse the keys and values of earlier ones": gemma4_that_shares,
    "several streams of hidden states": lambda: _with_text("gemma3n_text", num_kv_shared_layers=0, **GEMMA3N),
    "its prompt goes through an encoder, and what it decodes holds no picture": encoder_decoder,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_decoder_that_would_not_be_exact_is_refused(reason):
    with pytest.raises(ValueError, match=reason), pruner("stairs", "original").attach(REFUSED[reason]()):
        pass


def test_compact_positions_are_refused_where_attention_goes_by_place():
    compact = pruner("stairs", "compact")
    with pytest.raises(ValueError, match="use positions='original'"), compact.attach(model("llama4")):
        pass
