"""The oracle's own test: each of these bugs, planted in the decoder, must move the logits away from it."""

import pytest
import torch
from arms import decode

from autoprune_lab.decoder import decode as decoding
from autoprune_lab.decoder import deepstack, masks, prefill, view

compact_positions_since, keys_since = decoding.compact_positions_since, decoding.keys_since


def _truncated(table, stage, samples):
    return table[:, : stage.index.shape[1]].expand(len(stage.index), -1, -1).chunk(2, dim=-1)


def _one_further(stage, since, n_new):
    return compact_positions_since(stage, since, n_new) + 1


def _all_seen(stages, since, *form):
    return [torch.ones(len(since), 1, 1, one.index.shape[1] + since.shape[1]).bool() for one in stages]


def _by_place(stage, width, since):
    valid = keys_since(stage, width, since).valid
    return masks.Keys(valid, torch.arange(valid.shape[1]).expand_as(valid))


def _causal(mask, stage, *known):
    return masks.causal_mask(masks.prompt_keys(stage), stage.index.shape[1], None, "sdpa", torch.float32)


def _first(stage, mask, features):
    return stage.visual, features[: stage.visual.sum()]


PLANTED = {
    "cut forgotten": (prefill, "must_cut", lambda falls: False, "llava", "original"),
    "padding attended": (masks, "visible_keys", lambda stage: torch.ones_like(stage.valid), "llava", "original"),
    "all seen in decoding": (decoding, "step_masks", _all_seen, "llava", "original"),
    "rotary truncated": (view, "original_rotary", _truncated, "qwen2_vl", "original"),
    "compact positions one further": (decoding, "compact_positions_since", _one_further, "llava", "compact"),
    "window by place in the cache": (decoding, "keys_since", _by_place, "gemma3", "original"),
    "image blocks causal": (view, "narrow_mask", _causal, "gemma3", "original"),
    "prompt causal": (view, "narrow_mask", _causal, "paligemma", "original"),
    "deepstack misaligned": (deepstack, "narrow_features", _first, "qwen3_vl", "original"),
}


@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_by_the_oracle(monkeypatch, bug):
    *patch, name, positions = PLANTED[bug]
    monkeypatch.setattr(*patch)
    run = decode(name, "stairs", positions)
    assert (run.logits - run.expected).abs().max() > 1e-2
