"""What a layer is told it may see, and what the tap makes of it: every form of mask, by its definition."""

import numpy as np
import pytest
import torch

from autoprune_lab.decoder.layout import Prompt, Stage
from autoprune_lab.decoder.masks import Keys, causal_mask, keys_since, narrow_mask, step_masks
from autoprune_lab.decoder.tap import Tapped, last_probabilities, probabilities

IMAGE, PAD = 9, 0
LOW = torch.finfo(torch.float32).min
IDS = torch.tensor([[1, 9, 9, 2, 9, 3], [0, 0, 4, 9, 5, 6]])
SAMPLES = torch.arange(2)[:, None]


def prompt_stage():
    return Prompt.read(IDS, IDS != PAD, (IMAGE,)).stage


def cut_stage() -> Stage:
    """Slots 0 1 3 4 5 of the first sample, - 2 3 4 5 of the second: `-` is padding."""
    keep = torch.tensor([[True, False, True], [True, False, False]])
    return prompt_stage().narrow(keep, np.array([2, 1]))[0]


def even_stage() -> Stage:
    """Slots 0 2 3 5 of the first sample, 2 3 4 5 of the second."""
    return prompt_stage().narrow(torch.tensor([[False, True, False], [True, False, False]]), np.array([1, 1]))[0]


def test_a_stage_says_what_is_where():
    stage, even = cut_stage(), even_stage()
    assert stage.index.tolist() == [[0, 1, 3, 4, 5], [1, 2, 3, 4, 5]]
    assert stage.valid.tolist() == [[True] * 5, [False] + [True] * 4]
    assert stage.visual.tolist() == [[False, True, False, True, False], [False, False, True, False, False]]
    assert stage.rank.gather(1, stage.vision.slots).tolist() == [[0, 2], [0, -1]]
    assert stage.vision.real.tolist() == [[True, True], [True, False]]
    assert even.index.tolist() == [[0, 2, 3, 5], [2, 3, 4, 5]]
    assert even.valid.all()
    assert (prompt_stage().ragged, stage.ragged, even.ragged) == (True, True, False)
    assert (prompt_stage().aligned, stage.aligned, even.aligned) == (False, True, True)


def test_a_mask_of_two_axes_loses_the_columns_that_went():
    given = (IDS != PAD).long()
    assert narrow_mask(given, cut_stage(), SAMPLES).tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    given[0, 3] = 0  # whatever transformers hides stays hidden
    assert narrow_mask(given, cut_stage(), SAMPLES).tolist() == [[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]]


def uneven_stage() -> Stage:
    """All slots of the first sample, padding and slots 4 5 of the second: more padding than there was in the prompt."""
    keep = torch.tensor([[True, True, True], [False, False, False]])
    return prompt_stage().narrow(keep, np.array([3, 0]))[0]


@pytest.mark.parametrize("stage", [cut_stage(), even_stage(), uneven_stage()], ids=["ragged", "even", "uneven"])
@pytest.mark.parametrize("shape", [(2, 1), (1, 1), (2, 3)])
def test_a_mask_of_four_axes_loses_rows_and_columns_whatever_its_pattern(stage, shape):
    given = torch.rand(*shape, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    if len(given) == 2:
        given &= (IDS != PAD)[:, None, None]  # a mask of each sample hides its padding
    low = given.float().masked_fill_(~given & (IDS == PAD)[: len(given), None, None], LOW)
    got, added = narrow_mask(given, stage, SAMPLES), narrow_mask(low, stage, SAMPLES)
    for i, (index, valid) in enumerate(zip(stage.index, stage.valid, strict=True)):
        expected = given[i % len(given)][:, index][:, :, index]
        assert torch.equal(got[i], expected & valid)
        assert torch.equal(added[i], torch.where(valid, low[i % len(given)][:, index][:, :, index], LOW))


def keys():
    """Five keys of one sample, the first is padding; the third and fourth stand far apart."""
    return Keys(torch.tensor([[False, True, True, True, True]]), torch.tensor([[0, 1, 2, 8, 9]]))


@pytest.mark.parametrize(
    ("n_new", "window", "expected"),
    [
        (1, None, [[0, 1, 1, 1, 1]]), (2, None, [[0, 1, 1, 1, 0], [0, 1, 1, 1, 1]]),
        (2, 7, [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]), (1, 8, [[0, 0, 1, 1, 1]]), (1, 2, [[0, 0, 0, 1, 1]]),
    ],
)  # fmt: skip
def test_new_tokens_see_what_is_before_them_in_the_window(n_new, window, expected):
    expected = torch.tensor(expected).bool()[None, None]
    assert torch.equal(causal_mask(keys(), n_new, window, "sdpa", torch.float32), expected)
    added = causal_mask(keys(), n_new, window, "eager", torch.float32)
    assert torch.equal(added, torch.where(expected, 0.0, LOW))


def test_flash_attention_is_told_only_what_is_padding():
    assert torch.equal(causal_mask(keys(), 2, None, "flash_attention_2", torch.float32), keys().valid)


def test_keys_since_the_prompt_go_on_where_it_ended():
    since = torch.tensor([[True, True], [True, False]])
    got = keys_since(cut_stage(), 6, since)
    assert got.index.tolist() == [[0, 1, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7]]
    assert got.valid.tolist() == [[True] * 7, [False, *[True] * 5, False]]
    assert got.held(3).index.tolist() == [[5, 6, 7]] * 2


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2"])
def test_the_masks_of_one_new_token_made_together_are_those_made_singly(implementation):
    stages, since = [cut_stage(), even_stage()], torch.tensor([[True, True], [False, True]])
    together = step_masks(stages, since, implementation, torch.float32)
    for stage, mask in zip(stages, together, strict=True):
        single = causal_mask(keys_since(stage, 6, since), 1, None, implementation, torch.float32)
        assert torch.equal(mask, single)


MASKS = {
    "none": (None, True), "none, not causal": (None, False),
    "two axes": (torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]), True),
    "two axes of floats": (torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1.0]]), True),
    "two axes, not causal": (torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]), False),
    "booleans": (torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1]]).bool()[:, None, None].expand(-1, 1, 5, -1), True),
    "addends": (torch.linspace(-3, 0, 50).view(2, 1, 5, 5), True),
}  # fmt: skip


def by_definition(tapped):
    """Attention of all rows, (batch, heads, n, n), of plain loops over the samples."""
    key = tapped.key.repeat_interleave(tapped.query.shape[1] // tapped.key.shape[1], dim=1)
    logits = torch.einsum("bhqd,bhkd->bhqk", tapped.query.double(), key.double()) * tapped.scaling
    n, mask = logits.shape[-1], tapped.mask
    allowed = (
        torch.ones(n, n).tril().bool()
        if tapped.causal and (mask is None or mask.ndim == 2)
        else torch.ones(n, n).bool()
    )
    if mask is not None and mask.ndim == 2:
        allowed = allowed & mask.bool()[:, None, None]
    elif mask is not None and mask.dtype == torch.bool:
        allowed = mask
    elif mask is not None:
        logits = logits + mask
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1).float()


@pytest.mark.parametrize("n_kv_heads", [4, 2])
@pytest.mark.parametrize("form", MASKS)
def test_the_tap_gives_the_attention_of_any_mask(form, n_kv_heads):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 5, 3, generator=generator) for heads in (4, n_kv_heads))
    mask, causal = MASKS[form]
    tapped = Tapped(query, key, mask, 0.9, causal)
    rows, expected = torch.tensor([[4, 2], [2, 3]]), by_definition(tapped)
    torch.testing.assert_close(probabilities(tapped, rows), torch.stack([expected[i][:, rows[i]] for i in range(2)]))
    torch.testing.assert_close(last_probabilities(tapped), expected[:, :, -1].mean(1))
