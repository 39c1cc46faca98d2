"""Where a prompt ends: its last token stays whatever it is, and what follows it in the same call steers nothing."""

import numpy as np
import pytest
import torch
from arms import ARMS, CLOSE, STEPS, decode, generate, mixed, model, oracles, pruner, seen_by
from families import FAMILIES, IMAGE

from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.evaluation.prompts import _lengths
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.selection.cluster_merge import ClusterMerge
from policies.layerwise import LayerwisePolicy

NAMES = ["llava", "gemma3", "qwen2_vl"]  # plain, windows and picture blocks, positions in a plane
ANSWER = torch.tensor([7, 8, 9, 10, 11])

families = pytest.mark.parametrize("name", NAMES)
arms = pytest.mark.parametrize("arm", ARMS)
quiet = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")  # one prompt has no picture


def picture_last(name):
    """Prompts that end in a picture, beside one that does not and one without any."""
    sample = FAMILIES[name].sample
    return [
        sample(1, after=0),
        sample(2, n_images=2, before=3, after=5),
        sample(3, n_images=0),
        sample(4, before=9, after=0),
    ]


@torch.no_grad()
def prefilled(name, arm, inputs, n_prompt=None):
    with pruner(arm, "original").attach(model(name), keep_indices=True, n_prompt=n_prompt) as trace:
        logits = model(name)(**inputs).logits
    return logits, trace.samples


def assert_same(records, others):
    """Two runs decided alike."""
    for a, b in zip(records, others, strict=True):
        assert [kept.tolist() for kept in a.kept] == [kept.tolist() for kept in b.kept]
        assert a.counts.tolist() == a.planned.tolist() == b.counts.tolist()
        assert a.complexity == pytest.approx(b.complexity, abs=1e-5)
        assert (a.geometry, a.decoder_flops, a.scoring_flops) == (b.geometry, b.decoder_flops, b.scoring_flops)


@arms
@families
def test_a_prompt_that_ends_in_a_picture_equals_the_oracle(name, arm):
    run = decode(name, arm, "original", picture_last(name))
    steps = 1 if FAMILIES[name].mrope else STEPS  # `generate` counts on from each axis of the picture's last token
    torch.testing.assert_close(run.logits[:, :steps], run.expected[:, :steps], **CLOSE)
    for record, oracle in zip(run.records, run.oracles, strict=True):
        assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in oracle.kept]
        assert record.counts.tolist() == record.planned.tolist()
        assert record.geometry.n_vision == len(oracle.visual)
        assert record.geometry.n_text == len(oracle.sample.ids) - len(oracle.visual)
        assert record.ends_in_picture == (oracle.sample.ids[-1] == IMAGE)
    assert [record.counts[-1] < record.geometry.n_vision for record in run.records] == [True, True, False, True]
    inputs = FAMILIES[name].batch(picture_last(name))
    assert _lengths(inputs, [IMAGE]) == [(record.geometry.n_vision, record.geometry.n_text) for record in run.records]
    longest = np.max([record.counts + record.geometry.n_text for record in run.records], axis=0)
    assert [layer.get_seq_length() - STEPS + 1 for layer in run.cache.layers] == longest.tolist()


@quiet
@pytest.mark.parametrize("side", ["left", "right"])
@families
def test_padding_does_not_hide_a_last_token(name, side):
    samples = picture_last(name)
    logits, records = prefilled(name, "adaptive", FAMILIES[name].batch(samples, side, extra=2))
    alone = [prefilled(name, "adaptive", FAMILIES[name].batch([one])) for one in samples]
    assert_same(records, [record for _, (record,) in alone])
    real = FAMILIES[name].batch(samples, side, extra=2)["attention_mask"].bool()
    for row, mask, (own, _) in zip(logits, real, alone, strict=True):
        torch.testing.assert_close(row[mask][-1], own[0, -1], **CLOSE)
        assert row[mask][-1].abs().max() > 0.1


def test_the_last_token_is_the_text_row_of_a_prompt_that_ends_in_a_picture():
    seen, one = [], FAMILIES["llava"].sample(1, after=0)
    spy = Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=seen_by(scorers.text_attention, seen))
    inputs = FAMILIES["llava"].batch([one])
    with torch.no_grad(), spy.attach(model("llava")) as trace, flop_counter() as counter:
        model("llava")(**inputs, logits_to_keep=1)
    (evidence,) = seen
    assert evidence.text_mask.tolist() == [[True]]
    assert evidence.index.tolist() == [list(range(15))]
    torch.testing.assert_close(evidence.attention[:, :, 0], evidence.last_row, atol=0, rtol=0)
    decoder = counter.get_flop_counts()["LlavaForConditionalGeneration.model.language_model"]
    assert sum(decoder.values()) == trace.samples[0].decoder_flops + trace.samples[0].scoring_flops


def test_cls_attention_goes_by_patch_where_a_patch_ends_the_prompt():
    seen, sample = [], FAMILIES["llava"].sample
    spy = Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=seen_by(scorers.cls_attention, seen))
    with torch.no_grad(), spy.attach(model("llava")):
        model("llava")(**FAMILIES["llava"].batch([sample(1, after=0), sample(2)]))
        model("llava")(**FAMILIES["llava"].batch([sample(1), sample(2)]))
    ended, whole = (evidence.cls_attention for evidence in seen)
    torch.testing.assert_close(ended[0, :15], whole[0, :15], atol=0, rtol=0)
    torch.testing.assert_close(ended[1], whole[1], atol=0, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("name", "arm"), [("llava", "stairs"), ("gemma3", "adaptive"), ("qwen2_vl", "entrance")])
def test_an_answer_behind_the_prompt_steers_nothing(name, arm, side):
    samples = mixed(name)
    longer = [type(one)(torch.cat([one.ids, ANSWER[i:]]), one.images) for i, one in enumerate(samples)]
    inputs, ends = FAMILIES[name].batch(longer, side), [len(one.ids) for one in samples]
    logits, records = prefilled(name, arm, inputs, ends)
    assert_same(records, prefilled(name, arm, FAMILIES[name].batch(samples))[1])
    for i, oracle in enumerate(oracles(name, arm, "original", samples)):
        expected = oracle.logits(longer[i].ids, records[i].planned)
        mine = logits[i][inputs["attention_mask"][i].bool()]
        torch.testing.assert_close(mine[ends[i] - 1 :], expected[ends[i] - 1 :], **CLOSE)


def test_decoding_goes_on_behind_an_answer():
    one, net = FAMILIES["llava"].sample(1), model("llava")
    ids = torch.cat([one.ids, ANSWER])
    with torch.no_grad(), pruner("adaptive", "compact").attach(net, n_prompt=len(one.ids)) as trace:
        cache = net(**FAMILIES["llava"].batch([type(one)(ids, one.images)])).past_key_values
        logits = net(input_ids=torch.tensor([[12, 13]]), past_key_values=cache).logits[0]
    (oracle,) = oracles("llava", "adaptive", "compact", [one])
    expected = oracle.logits(torch.cat([ids, torch.tensor([12, 13])]), trace.samples[0].planned)
    torch.testing.assert_close(logits, expected[-2:], **CLOSE)


@pytest.mark.parametrize(
    ("n_prompt", "message"), [(99, "sample 0 has 28 tokens"), ([28, 28], "2 numbers for a batch of 1")]
)
def test_a_prompt_length_that_does_not_fit_is_refused(n_prompt, message):
    attached = pruner("stairs", "original").attach(model("llava"), n_prompt=n_prompt)
    with torch.no_grad(), attached, pytest.raises(ValueError, match=message):
        model("llava")(**FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)]))


@pytest.mark.parametrize("n_prompt", [0, [3, 0], []])
def test_an_empty_prompt_is_refused(n_prompt):
    attached = pruner("stairs", "original").attach(model("llava"), n_prompt=n_prompt)
    with pytest.raises(ValueError, match="at least 1"), attached:
        pass


def test_generate_needs_no_prompt_length():
    attached = pruner("stairs", "original").attach(model("llava"), n_prompt=3)
    with attached, pytest.raises(ValueError, match="generate knows its prompt"):
        model("llava").generate(**FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)]), max_new_tokens=2)


def drafts(name):
    """Ways of decoding that must give what greedy decoding with a cache gives."""
    return {
        "no cache": {"use_cache": False},
        "prompt lookup": {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 1},
        "assisted": {"assistant_model": FAMILIES[name].build(seed=1)},
    }


@pytest.mark.parametrize("how", ["no cache", "prompt lookup", "assisted"])
@families
@torch.no_grad()
def test_the_way_of_decoding_changes_neither_the_kept_tokens_nor_the_answer(name, how):
    inputs = FAMILIES[name].batch(mixed(name)[1:2], extra=2)
    for arm in ARMS:
        runs, positions = [], "compact" if arm == "stairs" and not FAMILIES[name].mrope else "original"
        for options in ({}, drafts(name)[how]):
            with pruner(arm, positions).attach(model(name), keep_indices=True) as trace:
                runs.append((generate(model(name), inputs, 8, **options), trace.samples))
        (greedy, records), (other, others) = runs
        assert_same(others, records)
        assert torch.equal(other.sequences, greedy.sequences)
        torch.testing.assert_close(torch.stack(other.logits), torch.stack(greedy.logits), **CLOSE)


MERGING = Pruner(
    LayerwisePolicy((2 / 6, 4 / 6), (0.6, 0.3)), recovery=ClusterMerge(in_place=False), positions="compact"
)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
@torch.no_grad()
def test_without_a_cache_a_padded_batch_keeps_what_it_keeps_with_one(options):
    net, inputs, runs = model("llava"), FAMILIES["llava"].batch(picture_last("llava")), []
    for use_cache in (True, False):
        with MERGING.attach(net) as trace:
            runs.append((generate(net, inputs, 6, use_cache=use_cache, **options), trace.samples))
    (cached, records), (other, others) = runs
    assert torch.equal(other.sequences, cached.sequences)
    assert [record.counts.tolist() for record in others] == [record.counts.tolist() for record in records]
    assert len(others) == 4 * options.get("num_beams", 1)


@torch.no_grad()
def test_a_model_may_draft_for_itself():
    net, inputs = model("llava"), FAMILIES["llava"].batch(mixed("llava")[1:2])
    with pruner("adaptive", "original").attach(net):
        greedy, drafted = (generate(net, inputs, 8, **options) for options in ({}, {"assistant_model": net}))
    assert torch.equal(drafted.sequences, greedy.sequences)
