"""Decisions of episodes: what an answer looked at, against the oracle, and what the next decision is told of it."""

import numpy as np
import pytest
import torch
from arms import STEPS, generate, mixed, model, seen_by
from families import FAMILIES, N_LAYERS
from oracle import Oracle

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.flops import scoring_flops
from autoprune_lab.selection import scorers
from autoprune_lab.selection.by_layer import ByLayer
from autoprune_lab.selection.vla_pruner import ActionHistory
from policies.layerwise import LayerwisePolicy

NAMES = ["llava", "gemma3", "qwen3_vl"]  # plain, windows that slide, positions in a plane
CUTS = LayerwisePolicy(depths=(2 / 6, 4 / 6), keep=(0.5, 0.2))
families = pytest.mark.parametrize("name", NAMES)


def arm(layer, otherwise=scorers.last_token_attention, window=3):
    return Pruner(CUTS, scorer=ActionHistory(window, layer=layer, otherwise=otherwise))


@torch.no_grad()
def decided(name, samples, pruner, history=None, **options):
    """What the block's trace holds once it has ended, and the sequences."""
    history = [()] * len(samples) if history is None else history
    with pruner.attach(model(name), keep_indices=True, history=history) as trace:
        out = generate(model(name), FAMILIES[name].batch(samples), **options)
    return trace.samples, out.sequences


def looked_at(name, sample, answer, counts, layer, positions="original"):
    """By the oracle: (vision,), the mean over heads and over the rows that the answer's tokens were read off."""
    oracle = Oracle(FAMILIES[name], sample, "last", positions)
    oracle.logits(torch.cat([sample.ids, answer]), counts)
    n = len(sample.ids)
    return oracle.attention[layer][:, n - 1 :][..., oracle.visual].mean((0, 1)), oracle.kept[layer]


@pytest.mark.parametrize("layer", [0, 3, N_LAYERS - 1])
@families
def test_what_an_answer_pays_is_the_oracle_s(name, layer):
    records, sequences = decided(name, mixed(name), arm(layer))
    for record, sample, answer in zip(records, mixed(name), sequences[:, -STEPS:-1], strict=True):
        expected, kept = looked_at(name, sample, answer, record.planned, layer)
        (paid,) = record.history
        np.testing.assert_allclose(paid, expected, atol=2e-6)
        assert paid.dtype == np.float32
        assert {*np.flatnonzero(paid).tolist()} <= {*kept.tolist()}


@families
def test_an_answer_that_ends_looks_at_the_same_alone_and_in_a_batch(name):
    samples = mixed(name)
    said = decided(name, samples, arm(3))[1][:, -STEPS:]
    end = int(said[1, 3])  # others may say it later, or never

    @torch.no_grad()
    def until_its_end(some):
        with arm(3).attach(model(name), history=[()] * len(some)) as trace:
            inputs = FAMILIES[name].batch(some)
            model(name).generate(**inputs, max_new_tokens=STEPS, do_sample=False, eos_token_id=[end, 0])
        return trace.samples

    for i, together in enumerate(until_its_end(samples)):
        (alone,) = until_its_end([samples[i]])
        np.testing.assert_allclose(together.history[0], alone.history[0], atol=2e-6)
        assert together.scoring_flops == alone.scoring_flops


def test_the_next_decision_is_told_of_the_last_ones_newest_first():
    samples, shown = mixed("llava"), []
    told = seen_by(ActionHistory(2, layer=2, otherwise=scorers.last_token_attention), shown)
    told.recall = ActionHistory(2, layer=2).recall
    histories = [()] * 4
    for _ in range(3):
        records, _ = decided("llava", samples, Pruner(CUTS, scorer=told), histories)
        earlier, histories = histories, [record.history for record in records]
    assert [len(history) for history in histories] == [2] * 4
    first, second = shown[-2:]  # the cuts of the third decision
    assert first.history.shape[:2] == second.history.shape[:2] == (4, 2)
    for evidence in (first, second):
        for i, history in enumerate(earlier):
            index = evidence.index[i][evidence.vision_mask[i]]
            np.testing.assert_array_equal(evidence.history[i][:, : len(index)], np.stack(history)[:, index])
            assert not evidence.history[i][:, len(index) :].any()
    assert shown[0].history.shape == (4, 0, shown[0].index.shape[1])


def test_without_a_history_or_a_part_that_reads_one_nothing_is_watched():
    samples = mixed("llava")
    reads_none, _ = decided("llava", samples, Pruner(CUTS, scorer=scorers.last_token_attention))
    with torch.no_grad(), arm(2).attach(model("llava")) as trace:
        generate(model("llava"), FAMILIES["llava"].batch(samples))
    for record, other in zip(reads_none, trace.samples, strict=True):
        assert record.history == other.history == ()
        assert record.scoring_flops == other.scoring_flops


def test_watching_an_answer_costs_a_row_a_token():
    (sample,) = mixed("llava")[:1]
    (watched,), _ = decided("llava", [sample], arm(2))
    (blind,), _ = decided("llava", [sample], Pruner(CUTS, scorer=scorers.last_token_attention))
    kept = blind.counts[2] + blind.geometry.n_text
    n_keys = STEPS * int(kept) + STEPS * (STEPS - 1) // 2
    assert watched.scoring_flops - blind.scoring_flops == scoring_flops(blind.geometry, 1, n_keys, 2)


@pytest.mark.parametrize(
    ("history", "options", "said"),
    [
        ([()], {}, "of 1 episodes, 4 prompts came"),
        ([(np.zeros(3),), (), (), ()], {}, "remembers 3 visual tokens, its prompt has 16"),
        ([()] * 4, {"num_beams": 2}, "of 4 episodes, 8 prompts came"),
        ([()] * 4, {"use_cache": False}, "leave use_cache as it is"),
        ([()] * 4, {"cache_implementation": "static"}, "leave out the static one"),
    ],
)
def test_what_no_history_can_be_read_off_is_refused(history, options, said):
    with pytest.raises(ValueError, match=said):
        decided("llava", mixed("llava"), arm(2), history, **options)


def test_an_assistant_s_candidates_are_refused():
    with pytest.raises(ValueError, match="one token a step"):
        decided("llava", mixed("llava")[:1], arm(2), prompt_lookup_num_tokens=3)


def test_a_layer_that_is_not_there_and_two_layers_are_refused():
    with pytest.raises(ValueError, match="none of the decoder's 6"):
        decided("llava", mixed("llava"), arm(6))
    both = ByLayer((0, 3), (ActionHistory(layer=1), ActionHistory(layer=2)))
    with pytest.raises(ValueError, match=r"layers \[1, 2\]: give all the same"):
        decided("llava", mixed("llava"), Pruner(CUTS, scorer=both))


def test_a_second_decision_in_one_block_is_refused():
    net, inputs = model("llava"), FAMILIES["llava"].batch(mixed("llava"))
    with torch.no_grad(), arm(2).attach(net, history=[()] * 4):
        net(**inputs)
        with pytest.raises(ValueError, match="open a new one"):
            net(**inputs)
