"""The trace tells what happened: cache lengths, FLOPs as torch counts them; evidence as eager gives it."""

import numpy as np
import pytest
import torch
from arms import seen_by
from oracle import Oracle
from tiny_models import IMAGE, LLAVA, N_LAYERS, PATCHES, batch, sample, tiny_llava

from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.evidence.complexity import rows_mutual_information
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import decode_flops, unpruned_flops
from autoprune_lab.schedule.policy import Signal
from autoprune_lab.selection import scorers
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

ADAPTIVE = Pruner(
    LogisticAdaptivePolicy(k0=1.5, gamma=0.5, x0=3.0), Budget(flops_ratio=0.75),
    scorer=scorers.text_attention, probe_layer=1,
)  # fmt: skip
CLS = Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=scorers.cls_attention)
AT_ONCE = LogisticAdaptivePolicy(k0=9.0, gamma=0.0, x0=2.0, floor=0.3)  # cuts right behind the probe
LM_HEAD = 2 * 48 * 64  # FLOPs of one position


@pytest.fixture(scope="module")
def model():
    return tiny_llava()


@pytest.mark.parametrize("one", [sample(1), sample(2, n_images=2)])
def test_counts_are_the_budget_s_and_the_cache_s(model, one):
    with torch.no_grad(), ADAPTIVE.attach(model) as trace:
        cache = model(**batch([one])).past_key_values
    record = trace.samples[0]
    shape = ADAPTIVE.policy.shape(Signal(N_LAYERS, record.complexity))
    fit = ADAPTIVE.budget.fit(shape, record.geometry, free_from=2)
    np.testing.assert_array_equal(record.counts, fit)
    np.testing.assert_array_equal(record.planned, fit)
    lengths = [layer.keys.shape[2] - record.geometry.n_text for layer in cache.layers]
    np.testing.assert_array_equal(record.counts, lengths)
    assert record.counts[-1] < record.geometry.n_vision == PATCHES * len(one.pixels)
    assert record.flops_ratio <= 0.75


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "pruner",
    [
        ADAPTIVE, Pruner(LayerwisePolicy((0.4, 0.7), (0.5, 0.2))), Pruner(LayerwisePolicy((), ())), Pruner(AT_ONCE),
        Pruner(AT_ONCE, scorer=scorers.text_attention),
    ],
    ids=["adaptive, text rows", "two cuts, last row", "no cut", "probe and last row at once", "the same rows twice"],
)  # fmt: skip
def test_flops_of_prefill_and_of_a_decoded_token_are_what_torch_counts(n_kv_heads, pruner):
    model, inputs = tiny_llava(n_kv_heads=n_kv_heads), batch([sample(2, n_images=2)])
    next_token = {
        "input_ids": inputs["input_ids"][:, -1:],
        "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + 1),
    }
    with torch.no_grad(), pruner.attach(model) as trace:
        features = model.get_image_features(pixel_values=inputs.pop("pixel_values"), return_dict=True)
        with flop_counter() as prefill:
            cache = model(**inputs, mm_encoder_outputs={"image": features}, logits_to_keep=1).past_key_values
        with flop_counter() as decode:
            model(**next_token, past_key_values=cache)
    record = trace.samples[0]
    assert prefill.get_total_flops() == record.decoder_flops + record.scoring_flops + LM_HEAD
    assert (record.scoring_flops > 0) == (record.decoder_flops < unpruned_flops(record.geometry))
    seen = record.counts + record.geometry.n_text + 1
    assert decode.get_total_flops() == decode_flops(record.geometry, seen) + LM_HEAD


def test_the_tap_equals_eager_attention_also_in_pruned_layers(model):
    seen = []
    pruner = Pruner(LayerwisePolicy((2 / 6, 4 / 6), (0.5, 0.2)), scorer=seen_by(scorers.last_token_attention, seen))
    samples = [sample(1), sample(2, n_images=2, after=5)]
    with torch.no_grad(), pruner.attach(model) as trace:
        model(**batch(samples))
    assert [evidence.layer for evidence in seen] == [1, 3]
    for i, one in enumerate(samples):
        oracle = Oracle(LLAVA, one, "last")
        oracle.logits(one.ids, trace.samples[i].planned)
        rows = [j for j in range(oracle.visual[0], len(one.ids)) if one.ids[j] != IMAGE]
        for evidence in seen:
            columns = oracle.visual[evidence.index[i][evidence.vision_mask[i]]]
            expected = oracle.attention[evidence.layer][:, rows][..., columns]
            mine = evidence.attention[i][:, evidence.text_mask[i]][..., evidence.vision_mask[i]]
            torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(
                evidence.last_row[i][:, evidence.vision_mask[i]], expected[:, -1], atol=1e-5, rtol=0
            )


def test_complexity_is_the_mutual_information_of_eager_attention():
    model, one = tiny_llava(attention="eager"), sample(2, n_images=2)
    with torch.no_grad():
        attention = model(**batch([one]), output_attentions=True).attentions[1][0]
        with ADAPTIVE.attach(model) as trace:
            model(**batch([one]))
    visual = one.ids == IMAGE
    rows = ~visual & (visual.cumsum(0) > 0)
    expected = rows_mutual_information(attention[None][:, :, rows][..., visual], rows[rows][None])
    assert trace.samples[0].complexity == pytest.approx(expected.item(), abs=1e-5)
    assert expected > 0.05


def _cls_by_eager(samples):
    """Mean over heads of the tower's own [CLS] attention, one row of patches per image."""
    model = tiny_llava(attention="eager")
    tower = model.base_model.vision_tower
    with torch.no_grad():
        pixels = torch.cat([s.pixels for s in samples])
        return tower(pixels, output_attentions=True).attentions[-2].mean(1)[:, 0, 1:]


def _forward(model, inputs):
    model(**inputs)


def _generate(model, inputs):
    model.generate(**inputs, max_new_tokens=2, num_beams=2)


def _cached(model, inputs):
    pixels = inputs.pop("pixel_values")
    features = model.get_image_features(pixel_values=pixels, output_hidden_states=True, return_dict=True)
    model(**inputs, mm_encoder_outputs={"image": features})


@pytest.mark.parametrize("call", [_forward, _generate, _cached])
def test_cls_attention_equals_the_tower_s(model, call):
    seen, samples = [], [sample(1), sample(3, n_images=0), sample(2, n_images=2)]
    pruner = Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=seen_by(scorers.cls_attention, seen))
    with torch.no_grad(), pruner.attach(model):
        call(model, batch(samples))
    expected = _cls_by_eager(samples)
    beams = len(seen[0].index) // 3
    for beam in range(beams):
        mine = seen[0].cls_attention[[beam, 2 * beams + beam]]
        torch.testing.assert_close(mine[0, :PATCHES], expected[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(mine[1], expected[1:].flatten(), atol=1e-6, rtol=0)
    assert not seen[0].cls_attention[beams].any()


def test_a_tower_without_cls_is_named():
    model = tiny_llava()
    model.base_model.vision_tower = torch.nn.Identity()
    inputs = batch([sample(1, n_images=1)])
    inputs.pop("pixel_values")
    with (
        torch.no_grad(),
        CLS.attach(model),
        pytest.raises(ValueError, match=r"Llava.*no vision tower of attention layers"),
    ):
        model(**inputs)


def test_features_computed_earlier_give_the_same_answer(model):
    one = sample(2, n_images=2)
    inputs = batch([one])
    with torch.no_grad(), ADAPTIVE.attach(model):
        expected = model.generate(**inputs, max_new_tokens=8)
        features = model.get_image_features(pixel_values=inputs.pop("pixel_values"), return_dict=True)
        got = model.generate(**inputs, mm_encoder_outputs={"image": features}, max_new_tokens=8)
    assert torch.equal(got, expected)


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
def test_a_batch_without_images_is_not_pruned_but_traced(model):
    inputs = batch([sample(3, n_images=0), sample(5, n_images=0, after=3)])
    with torch.no_grad():
        expected = model(**inputs).logits
        with ADAPTIVE.attach(model) as trace:
            got = model(**inputs).logits
    assert torch.equal(got, expected)
    assert [s.counts.sum() for s in trace.samples] == [0, 0]
    assert [s.flops_ratio for s in trace.samples] == [1.0, 1.0]
    assert [s.complexity for s in trace.samples] == [0.0, 0.0]
