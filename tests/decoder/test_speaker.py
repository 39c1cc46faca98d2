"""Models that hand prompts on to a whole language model inside, which has a `generate` of its own (BLIP-2)."""

import pytest
import torch
from arms import state
from expected_sorting import OLDER
from handed_on import forward, kept, samples, tiny
from mapping import IMAGE, N_QUERIES, VIDEO
from sorting import Tiny, oracle_of, pruner

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.evaluation.features import VisionEncoder
from autoprune_lab.models.checkpoint import VLM

pytestmark = [pytest.mark.skipif(OLDER, reason="of transformers 5.23"), pytest.mark.filterwarnings("ignore")]
TYPES = ["blip-2", "instructblip", "instructblipvideo"]
MARKED = ["kosmos-2", "kosmos-2.5"]  # see test_marked_pictures.py; the second has no `generate` of its own
STEPS = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "suppress_tokens": [0, IMAGE, VIDEO]}


def generate(name, inputs, **options):
    with torch.no_grad(), pruner("stairs").attach(tiny(name).model, keep_indices=True) as trace:
        return tiny(name).model.generate(**inputs, **STEPS | options), trace


@pytest.mark.parametrize("name", [*TYPES, *MARKED])
def test_generate_prunes_what_forward_prunes_and_its_tower_costs_the_same(name):
    inputs = tiny(name).batch(samples(name))
    (_, forwarded), (_, generated) = forward(name, inputs), generate(name, inputs)
    assert kept(generated) == kept(forwarded)
    assert all(sample.vision_flops > 0 for sample in generated.samples)
    for told in ("vision_flops", "decoder_flops", "scoring_flops", "kv_cache_bytes"):
        assert [getattr(s, told) for s in generated.samples] == [getattr(s, told) for s in forwarded.samples]


@pytest.mark.parametrize("name", TYPES)
def test_beams_of_a_padded_batch_are_those_of_its_prompts_alone(name):
    both = samples(name)
    together, trace = generate(name, tiny(name).batch(both), num_beams=2)
    for i, one in enumerate(both):
        alone, trace_alone = generate(name, tiny(name).batch([one]), num_beams=2)
        assert together[i, -4:].tolist() == alone[0, -4:].tolist()
        assert kept(trace)[2 * i : 2 * i + 2] == kept(trace_alone)


@torch.no_grad()
@pytest.mark.parametrize("name", TYPES)
def test_padding_at_the_right_of_a_forward_call(name):
    long, short = samples(name)
    inputs = tiny(name).batch([long, short])
    n = len(short.ids)
    for part in ("input_ids", "attention_mask"):
        inputs[part][1] = inputs[part][1].roll(n)
    logits, trace = forward(name, inputs)
    oracle = oracle_of(tiny(name), short, "last")
    expected = oracle.logits(short.ids, trace.samples[1].planned)
    text = ~torch.isin(short.ids, torch.tensor([IMAGE, VIDEO]))
    assert torch.allclose(logits[1, :n][text], expected[text], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "frames"), [("blip-2", 1), ("instructblipvideo", 4)])
def test_prompts_that_generate_makes_itself_are_pruned(name, frames):
    inputs = tiny(name).batch([tiny(name).sample("short")])
    inputs["pixel_values"] = inputs["pixel_values"][:1]
    if frames > 1:
        inputs["pixel_values"] = inputs["pixel_values"].expand(-1, frames, -1, -1, -1)
        inputs["qformer_input_ids"] = inputs["qformer_input_ids"][:1]
    del inputs["input_ids"], inputs["attention_mask"]
    _, trace = generate(name, inputs)
    (record,) = trace.samples
    assert (record.geometry.n_vision, record.geometry.n_text) == (frames * N_QUERIES, 1)
    assert record.counts[-1] < record.counts[0] == frames * N_QUERIES


def test_arguments_given_by_place_are_known():
    inputs = tiny("blip-2").batch(samples("blip-2"))
    given = inputs["pixel_values"], inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad(), pruner("stairs").attach(tiny("blip-2").model, keep_indices=True) as trace:
        out = tiny("blip-2").model.generate(*given, **STEPS)
    expected, named = generate("blip-2", inputs)
    assert torch.equal(out, expected)
    assert kept(trace) == kept(named)


def test_pictures_without_a_place_in_the_prompt_are_refused_by_both_ways():
    inputs = tiny("blip-2").batch(samples("blip-2"))
    inputs["input_ids"][inputs["input_ids"] == IMAGE] = 5
    for run in (forward, generate):
        with pytest.raises(ValueError, match="no visual tokens found"):
            run("blip-2", inputs)


def test_embeddings_without_their_ids_are_refused():
    inputs = tiny("blip-2").batch(samples("blip-2"))
    ids = inputs.pop("input_ids")
    with pytest.raises(ValueError, match="with input_ids"):
        generate("blip-2", inputs | {"inputs_embeds": tiny("blip-2").model.get_input_embeddings()(ids)})


def test_the_language_model_inside_is_not_called_alone():
    net = tiny("blip-2").model
    for run in (net.language_model, net.language_model.generate):
        with pruner("stairs").attach(net), pytest.raises(ValueError, match="call the attached model itself"):
            run(input_ids=torch.tensor([[5, IMAGE, 6]]))


def test_options_of_the_language_model_s_own_config_are_refused(monkeypatch):
    net = tiny("blip-2").model
    monkeypatch.setattr(net.language_model.generation_config, "prefill_chunk_size", 4, raising=False)
    with pytest.raises(ValueError, match="prefill_chunk_size"):
        generate("blip-2", tiny("blip-2").batch(samples("blip-2")))


@pytest.mark.parametrize("name", [*TYPES, *MARKED])
def test_the_model_is_as_it_was_after_the_block(name):
    net = tiny(name).model
    before = state(net)
    with pytest.raises(KeyError), pruner("stairs").attach(net):
        raise KeyError
    assert state(net) == before


@pytest.mark.parametrize("name", ["blip-2", *MARKED])
def test_positions_that_were_added_before_the_layers_stay(name):
    with (
        pytest.raises(ValueError, match="adds positions to its tokens before any layer"),
        pruner("stairs", "compact").attach(tiny(name).model),
    ):
        pass


def test_only_who_hands_on_has_a_language_model_that_speaks():
    assert Anatomy.of(tiny("blip-2").model).speaker is tiny("blip-2").model.language_model
    assert Anatomy.of(Tiny("llava").model).speaker is None


def test_pixels_stay_pixels_for_a_generate_that_takes_nothing_else():
    inputs = tiny("blip-2").batch(samples("blip-2"))
    assert VisionEncoder(VLM(tiny("blip-2").model, processor=None, name="blip"))(inputs) is inputs
