"""Models that are told where their pictures go by marks beside the prompt's ids (Kosmos-2, Kosmos-2.5)."""

import inspect

import numpy as np
import pytest
import torch
from expected_sorting import OLDER
from families import Sample
from handed_on import forward, kept, samples, tiny
from mapping import HIDDEN, IMAGE, N_QUERIES, OTHER, tiny_model
from sorting import STEPS, decoded, is_visual, oracle_of, pruner
from transformers import AutoConfig
from transformers.cache_utils import DynamicCache

from autoprune_lab.decoder.anatomy import Anatomy, geometry_by
from autoprune_lab.evaluation.features import VisionEncoder
from autoprune_lab.evaluation.prompts import _lengths
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.visual_tokens import MARKS
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.flops import decode_flops
from policies.fixed import FixedPolicy

pytestmark = [pytest.mark.skipif(OLDER, reason="of transformers 5.23"), pytest.mark.filterwarnings("ignore")]
TYPES = ["kosmos-2", "kosmos-2.5"]


def one_picture(name, seed=3):
    """Beams repeat what the tower made, a row a picture: the stock models take one picture a prompt there."""
    sample = tiny(name).sample("short", seed=seed)
    first = int((sample.ids == IMAGE).nonzero()[0])
    ids = torch.cat([sample.ids[: first + N_QUERIES], sample.ids[first + 2 * N_QUERIES :]])
    return Sample(ids, {part: value[:1] for part, value in sample.images.items()})


@torch.no_grad()
def generate(name, inputs, **options):
    given = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "suppress_tokens": [0, IMAGE]}
    with pruner("stairs").attach(tiny(name).model, keep_indices=True) as trace:
        return tiny(name).model.generate(**inputs, **given | options)[:, -STEPS:], trace


@torch.no_grad()
@pytest.mark.parametrize("name", TYPES)
def test_decoded_tokens_of_a_padded_batch_stand_where_the_stock_model_puts_them(name):
    """It counts a row's padding among the positions before a decoded token; what is kept is read without it."""
    both = samples(name)
    width = max(len(sample.ids) for sample in both)
    with pruner("stairs").attach(tiny(name).model) as trace:
        answers, logits = decoded(tiny(name), tiny(name).batch(both))
    for i, (sample, record) in enumerate(zip(both, trace.samples, strict=True)):
        n, last = len(sample.ids), answers[i]
        places = torch.cat([torch.arange(n), width + torch.arange(len(last))]) + 1  # 0 is the padding's
        told = Sample(sample.ids, sample.images | {"position_ids": places[None]})
        expected = oracle_of(tiny(name), told, "last").logits(torch.cat([sample.ids, last]), record.planned)[-STEPS:]
        assert torch.allclose(logits[i], expected, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", TYPES)
def test_keeping_all_decodes_what_the_stock_model_decodes_in_a_padded_batch(name, monkeypatch):
    inputs = tiny(name).batch(samples(name))
    stock = decoded(tiny(name), inputs)
    monkeypatch.setattr("autoprune_lab.decoder.prefill.must_cut", lambda falls: True)
    with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(tiny(name).model):
        kept_all = decoded(tiny(name), inputs)
    assert torch.equal(kept_all[0], stock[0])
    assert torch.allclose(kept_all[1], stock[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TYPES)
def test_beams_are_those_of_the_prompts_alone(name):
    both = [one_picture(name, seed=3), one_picture(name, seed=4)]
    together, trace = generate(name, tiny(name).batch(both), num_beams=2)
    for i, one in enumerate(both):
        alone, trace_alone = generate(name, tiny(name).batch([one]), num_beams=2)
        assert together[i].tolist() == alone[0].tolist()
        assert kept(trace)[2 * i : 2 * i + 2] == kept(trace_alone)


@pytest.mark.parametrize("name", TYPES)
def test_without_a_cache_the_same_is_decoded(name):
    inputs = tiny(name).batch(samples(name)[:1])
    (cached, trace), (again, trace_again) = generate(name, inputs), generate(name, inputs, use_cache=False)
    assert again.tolist() == cached.tolist()
    assert kept(trace_again) == kept(trace)


@torch.no_grad()
@pytest.mark.parametrize("name", TYPES)
def test_a_loop_of_one_s_own_gives_the_pictures_again(name):
    inputs = tiny(name).batch(samples(name)[:1])
    net, token = tiny(name).model, torch.tensor([[7]])
    pixels = {part: value for part, value in inputs.items() if part in ("pixel_values", "flattened_patches", MARKS)}
    pixels = pixels if name == "kosmos-2" else {}  # Kosmos-2 wants them with every call, and reads them once
    with pruner("stairs").attach(net) as trace:
        held = net(**inputs, past_key_values=DynamicCache(config=net.config.text_config), use_cache=True)
        mask = torch.ones(1, inputs["input_ids"].shape[1] + 1)
        step = net(input_ids=token, attention_mask=mask, past_key_values=held.past_key_values, **pixels).logits[0, -1]
    assert not trace.late_vision
    ids = torch.cat([samples(name)[0].ids, token[0]])
    expected = oracle_of(tiny(name), samples(name)[0], "last").logits(ids, trace.samples[0].planned)[-1]
    assert torch.allclose(step, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", TYPES)
def test_features_in_place_of_pixels(name):
    inputs = tiny(name).batch(samples(name))
    expected, trace = forward(name, inputs)
    with torch.no_grad():
        made = tiny(name).model(**inputs).image_embeds
    assert made.shape == (7, N_QUERIES, HIDDEN)
    alone = {part: inputs[part] for part in ("input_ids", "attention_mask", MARKS)} | {"image_embeds": made}
    logits, again = forward(name, alone)
    assert torch.equal(logits, expected)
    assert kept(again) == kept(trace) == kept(generate(name, alone)[1])


@pytest.mark.parametrize("name", TYPES)
def test_marks_are_read_whatever_their_type(name):
    inputs = tiny(name).batch(samples(name))
    expected, _ = forward(name, inputs)
    marks = inputs[MARKS]
    assert ((marks == -1).any().item()) == (name == "kosmos-2.5")  # around pictures
    floats, _ = forward(name, inputs | {MARKS: marks.float()})
    assert torch.equal(floats, expected)
    if name == "kosmos-2":
        flags, _ = forward(name, inputs | {MARKS: marks.bool()})
        assert torch.equal(flags, expected)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("run", [forward, generate])
@pytest.mark.parametrize(
    "marks", [lambda given: torch.zeros_like(given), lambda given: None], ids=["all 0", "left out"]
)
def test_pictures_without_a_place_in_the_prompt_are_refused_by_both_ways(name, run, marks):
    inputs = tiny(name).batch(samples(name))
    with pytest.raises(ValueError, match=f"{MARKS} marks no token outside their padding"):
        run(name, inputs | {MARKS: marks(inputs[MARKS])})


@pytest.mark.parametrize("name", TYPES)
def test_marks_of_another_prompt_are_refused(name):
    inputs = tiny(name).batch(samples(name))
    with pytest.raises(ValueError, match=f"{MARKS} is torch.int64 of shape \\(1, 4\\), input_ids are"):
        forward(name, inputs | {MARKS: inputs[MARKS][:1, :4]})


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("ask", [lambda seen: seen.grid, lambda seen: seen.tower_attention()])
def test_where_a_learned_query_looks_from_is_not_known(name, ask):
    inputs = tiny(name).batch(samples(name))

    def scorer(evidence):
        return ask(evidence).float()

    arm = Pruner(FixedPolicy(layer=2, keep=0.5), scorer=scorer)
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match="learned query that reads the whole picture"),
        arm.attach(tiny(name).model),
    ):
        tiny(name).model(**inputs)


def test_only_who_hands_on_has_a_language_model_that_speaks():
    assert Anatomy.of(tiny("kosmos-2").model).speaker is tiny("kosmos-2").model.text_model
    assert Anatomy.of(tiny("kosmos-2.5").model).speaker is None


@pytest.mark.parametrize("name", TYPES)
def test_normed_hidden_states_are_those_that_the_head_reads(name):
    anatomy, hidden = Anatomy.of(tiny(name).model), torch.randn(1, 3, HIDDEN)
    assert torch.equal(anatomy.normed(hidden), anatomy.decoder.layer_norm(hidden))


@pytest.mark.parametrize("name", TYPES)
def test_a_prompt_s_visual_tokens_are_counted_by_its_marks(name):
    inputs = tiny(name).batch(samples(name))
    n_text = [int((~is_visual(sample.ids)).sum()) for sample in samples(name)]
    assert _lengths(inputs, ()) == [(40, n_text[0]), (16, n_text[1])]
    assert OTHER in inputs["input_ids"]


def test_pixels_stay_pixels_where_no_features_are_taken():
    for name in TYPES:
        inputs = tiny(name).batch(samples(name))
        assert VisionEncoder(VLM(tiny(name).model, processor=None, name=name))(inputs) is inputs


@pytest.mark.parametrize(("name", "width", "hidden"), [("kosmos-2", 2048, 8192), ("kosmos-2.5", 1536, 6144)])
def test_the_released_size_is_described_without_its_tables(name, width, hidden):
    geometry = geometry_by(AutoConfig.for_model(name))
    token, pair = 8 * width**2 + 4 * width * hidden, 4 * width
    assert {(layer.per_token, layer.per_pair) for layer in geometry.each} == {(token, pair)}
    assert decode_flops(geometry, np.full(24, 10)) == 24 * (token + 10 * pair)


def test_the_table_of_positions_is_untouched():
    net = tiny_model("kosmos-2")
    table = Anatomy.of(net).decoder.embed_positions
    before = table.weights.clone()
    _ = Anatomy.of(net).geometry
    assert torch.equal(table.weights, before)
    assert inspect.ismethod(table.make_weights)
