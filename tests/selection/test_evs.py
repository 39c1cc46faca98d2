"""EVS against its official code's numbers, and in plain loops."""

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, copied, part_of
from autoprune_lab.selection.evs import evs
from tests.support.films import filmed, kept_by, video
from tests.support.goldens import goldens

MIXED = [
    [video(0, 4, 9, 6), torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), video(2, 1, 5, 6)],
    [video(3, 1, 4, 6), video(4, 3, 4, 6), video(5, 2, 4, 6)],
    [video(6, 1, 1, 6)],
]


@pytest.mark.parametrize("golden", goldens("evs"), ids=str)
def test_official_numbers(golden):
    tokens = golden.inputs["tokens"]
    scores = evs(filmed([tokens]))[0]
    kept = kept_by(scores, golden.outputs["count"])
    per_frame = (torch.tensor(kept) // tokens.shape[1]).bincount(minlength=len(tokens))
    golden.check(dissimilarity=scores.clamp(max=255), kept=kept, per_frame=per_frame)


def test_plain_loops_on_prompts_of_images_and_videos():
    scores = evs(filmed(*MIXED))
    for row, sample in zip(scores, MIXED, strict=True):
        at = 0
        for part in sample:
            for f in range(part.shape[0] if part.ndim == 3 else 1):
                for j in range(part.shape[-2]):
                    if part.ndim == 3 and f:
                        expected = 1 - torch.cosine_similarity(part[f, j], part[f - 1, j], dim=0)
                        assert row[at].item() == pytest.approx(expected.item(), abs=1e-6)
                    else:
                        assert row[at] > 255
                    at += 1


def test_less_than_a_frame_is_evenly_spread():
    scores = evs(filmed([video(0, 3, 64, 8)]))[0]
    kept = torch.tensor(kept_by(scores, 16))
    assert kept.max() < 64
    assert kept.diff().max() <= 8


def test_a_batch_is_its_samples_alone_in_any_order():
    seen = filmed(*MIXED)
    for i in range(len(MIXED)):
        single, order = alone(seen, i), torch.randperm(int(seen.counts[i]), generator=torch.Generator().manual_seed(i))
        torch.testing.assert_close(evs(single)[0], evs(seen)[i, : len(order)])
        turned = part_of(single, 0, torch.arange(2), order)
        torch.testing.assert_close(evs(turned)[0], evs(single)[0, order])


def test_a_place_that_an_earlier_cut_left_out_is_compared_with_its_last_frame():
    tokens = video(7, 3, 4, 8)
    left = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8, 9])  # of frame 1 the first place is gone
    scores = evs(part_of(filmed([tokens]), 0, torch.arange(2), left))[0]
    expected = 1 - torch.cosine_similarity(tokens[2, 0], tokens[0, 0], dim=0)
    assert scores[7].item() == pytest.approx(expected.item(), abs=1e-6)


def test_an_overview_and_its_tiles_are_no_video():
    """Both places are the same, but the rows of tiles have ends."""
    seen = filmed([video(8, 2, 4, 8), torch.ones(2, 8)])
    grid = seen.grid.clone()
    grid[0, 8:, 1] = 1
    assert (evs(copied(seen, grid_=grid)) > 255).all()


def test_tokens_of_length_0_are_new_and_nothing_is_nan():
    scores = evs(filmed([torch.zeros(2, 4, 3)]))[0]
    assert scores[4:].tolist() == [1.0] * 4
