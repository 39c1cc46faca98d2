"""Tokens of videos are visual tokens like those of images: alone and mixed, in one prompt and in one batch."""

from functools import cache

import numpy as np
import pytest
import torch
from arms import ARMS, CLOSE, pruner
from families import FAMILIES, IMAGE, N_LAYERS, Sample
from oracle import Oracle
from videos import FILMED, VIDEO

from autoprune_lab.decoder import prefill
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy

pytestmark = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")  # one prompt is text alone
STORIES = ("tvt", "titvt", "tttt", "vtitit", "tvtvt")
PRUNED = [True, True, False, True, True]
STEPS = 6

families = pytest.mark.parametrize("name", FILMED)


@cache
def model(name):
    return FILMED[name].build()


@cache
def prompts(name):
    return [FILMED[name].told(seed, story) for seed, story in enumerate(STORIES)]


def oracle(name, arm, one):
    _, rank_by, *opens_by = ARMS[arm]
    return Oracle(FILMED[name], one, rank_by, "original", *opens_by, visual_ids=(IMAGE, VIDEO))


def generate(name, samples, **options):
    return model(name).generate(
        **FILMED[name].batch(samples), max_new_tokens=STEPS, min_new_tokens=STEPS, suppress_tokens=[IMAGE, VIDEO],
        do_sample=False, return_dict_in_generate=True, output_logits=True, **options,
    )  # fmt: skip


@families
def test_the_oracle_that_keeps_everything_is_the_model(name):
    for one in prompts(name)[1:2]:
        own = oracle(name, "stairs", one)
        with torch.no_grad():
            logits = model(name)(**FILMED[name].batch([one])).logits[0]
        torch.testing.assert_close(own.logits(one.ids, np.full(N_LAYERS, len(own.visual))), logits, **CLOSE)


@pytest.mark.parametrize(
    ("name", "arm"), [*((name, "stairs") for name in FILMED), ("qwen3_vl", "adaptive"), ("llava_onevision", "entrance")]
)
def test_a_batch_of_videos_and_images_equals_the_oracle_while_it_decodes(name, arm):
    samples = prompts(name)
    with torch.no_grad(), pruner(arm, "original").attach(model(name), keep_indices=True) as trace:
        out = generate(name, samples)
    for i, (one, record) in enumerate(zip(samples, trace.samples, strict=True)):
        own = oracle(name, arm, one)
        expected = own.logits(torch.cat([one.ids, out.sequences[i, -STEPS:-1]]), record.planned)
        torch.testing.assert_close(torch.stack([step[i] for step in out.logits]), expected[-STEPS:], **CLOSE)
        assert [kept.tolist() for kept in record.kept] == [kept.tolist() for kept in own.kept]
        assert record.geometry.n_vision == len(own.visual) == torch.isin(one.ids, torch.tensor([IMAGE, VIDEO])).sum()
        np.testing.assert_array_equal(record.counts, record.planned)
    assert [bool(record.counts[-1] < record.geometry.n_vision) for record in trace.samples] == PRUNED


@families
def test_forward_of_a_padded_batch_equals_the_oracle(name):
    samples = prompts(name)
    inputs = FILMED[name].batch(samples, "right", extra=2)
    with torch.no_grad(), pruner("adaptive", "original").attach(model(name)) as trace:
        logits = model(name)(**inputs).logits
    for i, (one, record) in enumerate(zip(samples, trace.samples, strict=True)):
        text = ~torch.isin(one.ids, torch.tensor([IMAGE, VIDEO]))
        expected = oracle(name, "adaptive", one).logits(one.ids, record.planned)
        torch.testing.assert_close(logits[i, inputs["attention_mask"][i].bool()][text], expected[text], **CLOSE)
    assert all(record.vision_flops for record, story in zip(trace.samples, STORIES, strict=True) if story != "tttt")


@families
def test_keep_all_through_the_gather_path_equals_the_unpruned_model(monkeypatch, name):
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
    inputs = FILMED[name].batch(prompts(name))
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = model(name)(**inputs).logits[real]
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(model(name)):
            assert torch.equal(model(name)(**inputs).logits[real], expected)


@pytest.mark.parametrize("name", ["internvl", "smolvlm"])
def test_frames_that_carry_the_image_s_token_are_pictures_between_time_stamps(name):
    """A processor of these writes a video as its frames: images with text before each."""
    film = FAMILIES[name].sample(1, n_images=4, before=3, after=4)
    with torch.no_grad(), pruner("adaptive", "original").attach(model_of(name), keep_indices=True) as trace:
        logits = model_of(name)(**FAMILIES[name].batch([film])).logits[0]
    own = Oracle(FAMILIES[name], film, "text")
    expected = own.logits(film.ids, trace.samples[0].planned)
    torch.testing.assert_close(logits[film.ids != IMAGE], expected[film.ids != IMAGE], **CLOSE)
    assert (trace.samples[0].geometry.n_vision, trace.samples[0].geometry.n_text) == (4 * 16, 3 + 4 * 4)


def test_a_video_without_its_tokens_is_refused():
    film = FILMED["qwen2_5_vl"].told(1, "tvt")
    inputs = FILMED["qwen2_5_vl"].batch([Sample(torch.arange(5, 12), film.images)])
    with pruner("stairs", "original").attach(model("qwen2_5_vl")), pytest.raises(ValueError, match=r"ids \(63, 64\)"):
        model("qwen2_5_vl")(**inputs)


@torch.no_grad()
def test_a_video_in_a_later_turn_is_kept_whole_and_told():
    name = "llava_onevision"
    first, second = FILMED[name].told(1, "tit"), FILMED[name].told(2, "vt")
    with pruner("stairs", "original").attach(model(name)) as trace:
        cache_ = model(name)(**FILMED[name].batch([first])).past_key_values
        later = FILMED[name].batch([second])
        later["attention_mask"] = torch.ones(1, len(first.ids) + len(second.ids), dtype=torch.long)
        model(name)(**later, past_key_values=cache_)
    assert trace.late_vision == [13]


@cache
def model_of(name):
    return FAMILIES[name].build()
