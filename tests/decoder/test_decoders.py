"""Decoders whose layers ask for more than a mask and a rotary embedding, against the oracle; and those refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from arms import ARMS, CLOSE, pruner
from decoders import DECODERS, LAYERED
from families import FAMILIES, IMAGE, TEXT, WHOLE
from oracle import Oracle
from transformers.modeling_outputs import BaseModelOutput

from autoprune_lab.decoder import prefill
from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.positions import reads_positions
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.recovery import drop
from policies.fixed import FixedPolicy

pytestmark = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")  # one prompt is text alone
STEPS = 8
# logits of attention are not scaled down there, so rounding grows
LOOSE = {name: {"atol": 2e-4, "rtol": 0} for name in ("gemma4", "gemma3n")}
CASES = [
    *((name, "stairs", "original") for name in DECODERS if name != "llama4"),
    *(("gemma3n", arm, "original") for arm in ("adaptive", "entrance")),
    *((name, arm, "compact") for name, arm in (("ministral3", "stairs"), ("muse", "entrance"), ("gemma2", "adaptive"))),
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


@pytest.mark.parametrize("n_shared", [0, 2])  # 2: attend to keys of layer 1, with cuts behind it
def test_an_input_of_each_layer_follows_the_tokens(n_shared):
    layered = replace(LAYERED, text=LAYERED.text | {"num_kv_shared_layers": n_shared})
    net, samples = layered.build(), prompts(layered)
    inputs = layered.batch(samples, "right")
    with torch.no_grad(), pruner("stairs", "original").attach(net) as trace:
        logits = net(**inputs).logits
    for row, mask, one, record in zip(logits, inputs["attention_mask"].bool(), samples, trace.samples, strict=True):
        expected = Oracle(layered, one, "last").logits(one.ids, record.planned)
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


def one_that_shares_in_its_own_way():
    net = _with_text("llama")
    net.get_decoder().layers[4].self_attn.is_kv_shared_layer = True
    return net


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
    "and are not handed them as `shared_kv_states`": one_that_shares_in_its_own_way,
    "its prompt goes through an encoder, and what it decodes holds no picture": encoder_decoder,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_decoder_that_would_not_be_exact_is_refused(reason):
    with pytest.raises(ValueError, match=reason), pruner("stairs", "original").attach(REFUSED[reason]()):
        pass


@pytest.mark.parametrize("name", ["llama4", "gemma3n"])
def test_compact_positions_are_refused_where_places_are_not_the_layer_s_own(name):
    compact = pruner("stairs", "compact")
    with pytest.raises(ValueError, match="use positions='original'"), compact.attach(model(name)):
        pass


def test_layers_name_those_whose_keys_they_attend_to():
    assert [Anatomy.of(model("gemma3n")).source(i) for i in range(6)] == [0, 1, 2, 1, 2, 1]
    assert not Anatomy.of(model("gemma4")).shares


@torch.no_grad()
def test_without_a_cache_keys_of_earlier_layers_are_those_of_the_tokens_left():
    inputs = lambda: DECODERS["gemma3n"].batch(prompts(DECODERS["gemma3n"]))  # noqa: E731 - transformers changes them
    given = {"max_new_tokens": 4, "min_new_tokens": 4, "suppress_tokens": [IMAGE], "do_sample": False}
    told = {"return_dict_in_generate": True, "output_logits": True}
    with pruner("stairs", "original").attach(model("gemma3n")):
        cached = model("gemma3n").generate(**inputs(), **given, **told)
        repeated = model("gemma3n").generate(**inputs(), **given, **told, use_cache=False)
    assert torch.equal(cached.sequences, repeated.sequences)
    torch.testing.assert_close(torch.stack(repeated.logits), torch.stack(cached.logits), **LOOSE["gemma3n"])


@torch.no_grad()
def test_a_second_turn_sees_of_earlier_layers_what_the_first_one_left():
    family, net, new = DECODERS["gemma3n"], model("gemma3n"), torch.tensor([7, 8, 9, 10])
    one = prompts(family)[1]
    with pruner("stairs", "original").attach(net) as trace:
        cached = net(**family.batch([one])).past_key_values
        logits = net(input_ids=new[None], past_key_values=cached).logits[0]
    expected = Oracle(family, one, "last").logits(torch.cat([one.ids, new]), trace.samples[0].planned)
    torch.testing.assert_close(logits, expected[-len(new) :], **LOOSE["gemma3n"])


@torch.no_grad()
def test_an_unpruned_cache_that_lacks_the_sharing_layers_goes_on():
    net, inputs = model("gemma3n"), DECODERS["gemma3n"].batch(prompts(DECODERS["gemma3n"])[:1])
    step = {"input_ids": torch.tensor([[7]])}
    expected = net(**step, past_key_values=net(**inputs).past_key_values).logits
    cached = net(**inputs).past_key_values
    with pruner("stairs", "original").attach(net):
        assert torch.equal(net(**step, past_key_values=cached).logits, expected)


def looking(evidence):
    """Reads keys as they are before the rotary embedding, and goes by something else."""
    evidence.keys("vision", rotary=False)
    return evidence.last_row_mean


def by_last_row(evidence):
    return evidence.last_row_mean


@torch.no_grad()
def test_looking_at_keys_before_the_rotary_leaves_those_that_are_handed_on():
    inputs = DECODERS["gemma3n"].batch(prompts(DECODERS["gemma3n"])[:2])
    last = Anatomy.of(model("gemma3n")).source(5)
    logits = []
    for scorer in (by_last_row, looking):
        with Pruner(FixedPolicy(layer=last + 1, keep=0.3), scorer=scorer, probe_layer=last).attach(model("gemma3n")):
            logits.append(model("gemma3n")(**inputs).logits)
    assert torch.equal(*logits)
    late = Pruner(FixedPolicy(layer=5, keep=0.3), scorer=looking, probe_layer=4)
    with pytest.raises(ValueError, match="rotated already"), late.attach(model("gemma3n")):
        model("gemma3n")(**inputs)


@torch.no_grad()
def test_a_recovery_gives_back_every_stream():
    net, inputs = model("gemma3n"), DECODERS["gemma3n"].batch(prompts(DECODERS["gemma3n"])[:2])

    def unmerged(evidence, scores, kept, merged):
        survivors = drop(evidence, scores, kept, merged)
        return survivors._replace(hidden=evidence.hidden.clone())

    logits = []
    for recovery in (drop, unmerged):
        with Pruner(FixedPolicy(layer=2, keep=0.5), recovery=recovery).attach(net):
            logits.append(net(**inputs).logits)
    assert torch.equal(*logits)
