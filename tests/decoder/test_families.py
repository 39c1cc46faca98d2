"""Pruning on every model family, against the oracle: prompt, decoding, second turn, beams."""

from functools import cache

import numpy as np
import pytest
import torch
from arms import CASES, CLOSE, PLACES, STEPS, decode, generate, mixed, model, oracles, pruner
from families import FAMILIES, IMAGE, N_LAYERS

from autoprune_lab.decoder import prefill
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy

pytestmark = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")  # text alone, or all kept
NEW = torch.tensor([[7, 8, 9, 10], [11, 12, 0, 0], [13, 14, 15, 0], [16, 17, 18, 19]])  # a second turn, 0: padding

cases = pytest.mark.parametrize(("name", "arm", "positions"), CASES)
places = pytest.mark.parametrize(("name", "positions"), PLACES)
batches = pytest.mark.parametrize("chosen", [slice(None), slice(1, 2)], ids=["padded", "alone"])
pruned = cache(decode)


@cache
@torch.no_grad()
def unpruned(name):
    """20 tokens of the plain model: their logits (samples, steps, vocabulary), and they themselves."""
    out = generate(model(name), FAMILIES[name].batch(mixed(name)))
    return torch.stack(out.logits, 1), out.sequences[:, -STEPS:]


@cache
@torch.no_grad()
def singles(name, arm, positions):
    """Every prompt pruned alone: its logits (tokens, vocabulary), and its trace."""
    with pruner(arm, positions).attach(model(name), keep_indices=True) as trace:
        logits = [model(name)(**FAMILIES[name].batch([one])).logits[0] for one in mixed(name)]
    return logits, trace.samples


def assert_text_is_as_expected(oracle, logits, record):
    text = oracle.sample.ids != IMAGE
    expected = oracle.logits(oracle.sample.ids, record.planned)
    torch.testing.assert_close(logits[text], expected[text], **CLOSE)


def second_turn(name, inputs, new):
    """What a model gets after `inputs`; mrope models do not find positions under an attention mask themselves."""
    if len(new) == 1:
        return {"input_ids": new}
    mask = torch.cat([inputs["attention_mask"], (new > 0).long()], dim=1)
    turn = {"input_ids": new, "attention_mask": mask}
    if FAMILIES[name].mrope:
        turn["position_ids"] = (mask.cumsum(1) - 1)[None, :, -new.shape[1] :] + model(name).model.rope_deltas
    return turn


@places
def test_the_oracle_that_keeps_everything_is_the_model(name, positions):
    for oracle, logits, answer in zip(oracles(name, "stairs", positions, mixed(name)), *unpruned(name), strict=True):
        everything = np.full(N_LAYERS, len(oracle.visual))
        expected = oracle.logits(torch.cat([oracle.sample.ids, answer[:-1]]), everything)
        torch.testing.assert_close(logits, expected[-STEPS:], **CLOSE)


@cases
def test_every_decoded_step_equals_the_oracle(name, arm, positions):
    run = pruned(name, arm, positions)
    torch.testing.assert_close(run.logits, run.expected, **CLOSE)
    for record, oracle in zip(run.records, run.oracles, strict=True):
        assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in oracle.kept]
        np.testing.assert_array_equal(record.counts, record.planned)


@cases
def test_the_cache_holds_the_counts_of_the_trace(name, arm, positions):
    run = pruned(name, arm, positions)
    longest = np.max([record.counts + record.geometry.n_text for record in run.records], axis=0)
    np.testing.assert_array_equal([layer.get_seq_length() for layer in run.cache.layers], longest + STEPS - 1)


@cases
def test_pruning_changes_the_logits(name, arm, positions):
    change = (pruned(name, arm, positions).logits - unpruned(name)[0])[:, 0].abs().amax(1)
    assert (change > 0.05).tolist() == [True, True, False, True]


@cases
def test_a_single_prompt_equals_the_oracle(name, arm, positions):
    for oracle, *run in zip(oracles(name, arm, positions, mixed(name)), *singles(name, arm, positions), strict=True):
        assert_text_is_as_expected(oracle, *run)


@places
def test_unlike_counts_without_padding_equal_the_oracle(name, positions):
    one = FAMILIES[name].sample(1)
    prompts = [one, FAMILIES[name].sample(2, n_images=0, before=len(one.ids) - 8)]  # of one length
    with torch.no_grad(), pruner("adaptive", positions).attach(model(name)) as trace:
        logits = model(name)(**FAMILIES[name].batch(prompts)).logits
    for oracle, *run in zip(oracles(name, "adaptive", positions, prompts), logits, trace.samples, strict=True):
        assert_text_is_as_expected(oracle, *run)


@pytest.mark.parametrize("side", ["left", "right"])
@cases
def test_a_padded_batch_equals_the_single_runs(name, arm, positions, side):
    inputs = FAMILIES[name].batch(mixed(name), side, extra=3)
    with torch.no_grad(), pruner(arm, positions).attach(model(name), keep_indices=True) as trace:
        logits = model(name)(**inputs).logits
    real = inputs["attention_mask"].bool() & (inputs["input_ids"] != IMAGE)
    for i, (alone, b) in enumerate(zip(*singles(name, arm, positions), strict=True)):
        a = trace.samples[i]
        torch.testing.assert_close(logits[i, real[i]], alone[mixed(name)[i].ids != IMAGE], **CLOSE)
        assert (a.decoder_flops, a.scoring_flops) == (b.decoder_flops, b.scoring_flops)
        assert (a.complexity or 0.0) == pytest.approx(b.complexity or 0.0, abs=1e-5)
        assert [kept.tolist() for kept in a.kept] == [kept.tolist() for kept in b.kept]


@batches
@cases
def test_a_second_turn_on_the_pruned_cache_equals_the_oracle(name, arm, positions, chosen):
    net, inputs, new = model(name), FAMILIES[name].batch(mixed(name)[chosen]), NEW[chosen]
    with torch.no_grad(), pruner(arm, positions).attach(net) as trace:
        cached = net(**inputs).past_key_values
        logits = net(**second_turn(name, inputs, new), past_key_values=cached).logits
    for i, oracle in enumerate(oracles(name, arm, positions, mixed(name)[chosen])):
        ids = new[i][new[i] > 0]
        expected = oracle.logits(torch.cat([oracle.sample.ids, ids]), trace.samples[i].planned)
        torch.testing.assert_close(logits[i, : len(ids)], expected[-len(ids) :], **CLOSE)


@places
def test_generate_goes_on_from_a_cache_pruned_before_layer_0(name, positions):
    net, prompt = model(name), mixed(name)[1]
    with torch.no_grad(), pruner("entrance", positions).attach(net) as trace:
        first = generate(net, FAMILIES[name].batch([prompt]), 3)
        longer = {"input_ids": torch.cat([first.sequences, NEW[:1]], dim=1), "past_key_values": first.past_key_values}
        second = generate(net, longer, 4)
    (oracle,) = oracles(name, "entrance", positions, [prompt])
    expected = oracle.logits(second.sequences[0, :-1], trace.samples[0].planned)
    torch.testing.assert_close(torch.cat(second.logits), expected[-4:], **CLOSE)


@batches
@places
def test_keep_all_through_the_gather_path_equals_the_unpruned_model(monkeypatch, name, positions, chosen):
    # transformers counts padding between the turns as distance, compact positions do not
    new, tolerance = (NEW.flip(1), 0) if positions == "original" else (NEW, 5e-5)
    net, inputs, new = model(name), FAMILIES[name].batch(mixed(name)[chosen]), new[chosen]
    real = inputs["attention_mask"].bool()
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)

    def two_turns():
        first = net(**inputs)
        second = net(**second_turn(name, inputs, new), past_key_values=first.past_key_values)
        return torch.cat([first.logits[real], second.logits[new > 0]]), first.past_key_values

    with torch.no_grad():
        expected, _ = two_turns()
        with Pruner(FixedPolicy(layer=2, keep=1.0), positions=positions).attach(net):
            logits, cached = two_turns()
    assert cached._autoprune_lab_pruned.is_cut(2)
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)


@places
def test_beam_search_on_a_batch_equals_the_single_runs(name, positions):
    net, family = model(name), FAMILIES[name]
    with torch.no_grad(), pruner("stairs", positions).attach(net):
        together = generate(net, family.batch(mixed(name)), 6, num_beams=2)
        alone = [generate(net, family.batch([one]), 6, num_beams=2) for one in mixed(name)]
    assert torch.equal(together.sequences[:, -6:], torch.cat([out.sequences[:, -6:] for out in alone]))
    torch.testing.assert_close(together.sequences_scores, torch.cat([out.sequences_scores for out in alone]))


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.mrope])
def test_compact_positions_are_refused_where_tokens_stand_in_a_plane(name):
    with pytest.raises(ValueError, match="mrope"), pruner("stairs", "compact").attach(model(name)):
        pass
