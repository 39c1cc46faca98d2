"""What a prefill costs beside the decoder: vision FLOPs as torch counts them, bytes as the cache holds them."""

import numpy as np
import pytest
import torch
from families import FAMILIES

from autoprune_lab.decoder import meter
from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.meter import Meter, flop_counter
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from policies.layerwise import LayerwisePolicy

LLAVA = FAMILIES["llava"]
PRUNER = Pruner(LayerwisePolicy((0.4, 0.7), (0.5, 0.2)), scorer=scorers.text_attention)


@pytest.fixture(scope="module")
def model():
    return LLAVA.build()


def traced(model, call):
    """The trace of `call` without gradients under `PRUNER`."""
    with torch.no_grad(), PRUNER.attach(model) as trace:
        call()
    return trace.samples


def held(cache):
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_each_part_of_the_flops_is_what_torch_counts_in_that_module(family):
    model = family.build()
    anatomy, inputs = Anatomy.of(model), family.batch([family.sample(2, n_images=2)])
    with torch.no_grad(), PRUNER.attach(model) as trace, flop_counter() as counter:
        cache = model(**inputs, logits_to_keep=1).past_key_values
    record, counts = trace.samples[0], counter.get_flop_counts()
    names = {module: f"{type(model).__name__}.{name}" for name, module in model.named_modules()}
    assert record.vision_flops == sum(counts[names[anatomy.tower]].values()) > 0
    assert record.decoder_flops + record.scoring_flops == sum(counts[names[anatomy.decoder]].values())
    assert record.scoring_flops > 0
    assert record.kv_cache_bytes == held(cache)


@pytest.fixture
def counted(monkeypatch):
    """The counters that torch made."""
    counters = []
    monkeypatch.setattr(meter, "flop_counter", lambda: counters.append(flop_counter()) or counters[-1])
    return counters


@torch.no_grad()
def test_the_tower_is_counted_once_per_distinct_input(counted):
    tower, patches = Anatomy.of(FAMILIES["qwen2_vl"].build()).tower, torch.randn(96, 96)
    spent, tally = [], Meter()
    with tally.on(tower):
        for widths in ([8, 4], [8, 4], [6, 6], [8, 4]):  # the same shapes, attention within each picture
            tower(patches, grid_thw=torch.tensor([[1, 8, width] for width in widths]))
            spent.append(tally.take())
    assert len(counted) == 2
    assert spent[0] == spent[1] == spent[3] > spent[2] > 0
    assert tally.take() == 0


def test_what_one_block_has_counted_the_next_one_knows(counted):
    own, inputs = LLAVA.build(), LLAVA.batch([LLAVA.sample(1)])
    first, second = (traced(own, lambda: own(**inputs))[0].vision_flops for _ in range(2))
    assert len(counted) == 1
    assert first == second > 0


def test_a_module_that_has_grown_is_counted_anew():
    module, spent = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False)), []
    for _ in range(2):
        tally = Meter()
        with tally.on(module):
            module(torch.ones(3, 4))
        spent.append(tally.take())
        module.append(torch.nn.Linear(4, 5, bias=False))
    assert spent == [2 * 3 * 4 * 4, 2 * 3 * 4 * (4 + 5)]


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
def test_a_sample_s_share_of_a_batch_is_what_it_costs_alone(model):
    samples = [LLAVA.sample(1), LLAVA.sample(2, n_images=2), LLAVA.sample(3, n_images=0)]
    together = traced(model, lambda: model(**LLAVA.batch(samples)))
    alone = [traced(model, lambda one=one: model(**LLAVA.batch([one])))[0] for one in samples]
    assert [s.vision_flops for s in together] == [s.vision_flops for s in alone]
    assert [s.kv_cache_bytes for s in together] == [s.kv_cache_bytes for s in alone]
    assert together[2].vision_flops == 0 < 2 * together[0].vision_flops == together[1].vision_flops


def test_beams_share_the_one_time_the_tower_ran(model):
    inputs = LLAVA.batch([LLAVA.sample(1), LLAVA.sample(2)])
    plain = traced(model, lambda: model.generate(**inputs, max_new_tokens=3))
    beams = traced(model, lambda: model.generate(**inputs, max_new_tokens=3, num_beams=3))
    assert len(beams) == 3 * len(plain)
    assert sum(s.vision_flops for s in beams) == sum(s.vision_flops for s in plain) > 0


def test_features_from_elsewhere_cost_nothing(model):
    inputs = LLAVA.batch([LLAVA.sample(2, n_images=2)])
    with torch.no_grad():
        features = model.get_image_features(pixel_values=inputs.pop("pixel_values"), return_dict=True)
    (record,) = traced(model, lambda: model(**inputs, mm_encoder_outputs={"image": features}))
    assert record.vision_flops == 0 < record.decoder_flops


@pytest.mark.parametrize(
    "call",
    [lambda model, inputs: model(**inputs), lambda model, inputs: model.generate(**inputs, max_new_tokens=2)],
    ids=["forward", "generate"],
)
def test_a_call_that_failed_is_not_charged_to_the_next(model, call):
    inputs = LLAVA.batch([LLAVA.sample(1)])
    (expected,) = traced(model, lambda: call(model, inputs))

    def interrupted():
        with pytest.raises(RuntimeError):
            call(model, inputs | {"pixel_values": torch.randn(1, 4, 16, 16)})  # four channels
        with pytest.raises(ValueError, match="Image features and image tokens do not match"):
            call(model, inputs | {"pixel_values": torch.randn(2, 3, 16, 16)})
        call(model, inputs)

    (record,) = traced(model, interrupted)
    assert record.vision_flops == expected.vision_flops > 0
    assert "forward" not in vars(Anatomy.of(model).tower)


def test_cache_bytes_follow_the_dtype_and_the_cache(model):
    inputs = LLAVA.batch([LLAVA.sample(1)])
    half = LLAVA.build().to(torch.bfloat16)
    pixels = inputs["pixel_values"].to(torch.bfloat16)
    (full,) = traced(model, lambda: model(**inputs))
    (narrow,) = traced(half, lambda: half(**inputs | {"pixel_values": pixels}))
    (none,) = traced(model, lambda: model(**inputs, use_cache=False))
    assert np.array_equal(full.counts, narrow.counts)
    assert full.kv_cache_bytes == 2 * narrow.kv_cache_bytes > 0 == none.kv_cache_bytes
