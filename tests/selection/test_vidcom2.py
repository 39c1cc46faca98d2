"""VidCom2 against its official code's numbers, and in plain loops."""

import math

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, part_of
from autoprune_lab.selection.vidcom2 import likeness, shares, vidcom2
from tests.support.films import filmed, kept_by, video
from tests.support.goldens import goldens

MIXED = [
    [video(0, 4, 9, 6, 1.5), torch.ones(2, 6), video(2, 1, 5, 6)],
    [video(3, 1, 4, 6), video(4, 6, 4, 6), video(5, 2, 4, 6)],
    [video(6, 1, 1, 6)],
]


@pytest.mark.parametrize("golden", goldens("vidcom2"), ids=str)
def test_official_numbers(golden):
    tokens = golden.inputs["tokens"]
    n_frames, n = tokens.shape[:2]
    frame = torch.arange(n_frames).repeat_interleave(n)
    of_video, of_frame = likeness(tokens.flatten(0, 1), frame.numpy())
    scales = (golden.params["base"] * shares(of_video, frame.numpy(), 0.01)).clamp(max=1)
    golden.check(video_score=of_video, frame_score=of_frame, scales=scales)
    kept = kept_by(vidcom2(filmed([tokens]))[0], sum(golden.outputs["counts"]))
    golden.check(kept=kept, counts=frame[kept].bincount(minlength=n_frames))


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.62, 0.9])
def test_plain_loops_at_one_ratio_for_every_video(ratio):
    scores = vidcom2(filmed(*MIXED))
    for row, sample in zip(scores, MIXED, strict=True):
        at, kept = 0, []
        for part in sample:
            n = part.shape[-2]
            if part.ndim == 2:
                kept += range(at, at + n)
                at += n
                continue
            for f, chosen in enumerate(of_one_video(part, ratio)):
                kept += [at + f * n + j for j in chosen]
            at += part.shape[0] * n
        assert kept_by(row[:at], len(kept)) == sorted(kept)


def of_one_video(tokens, ratio):
    """The places that each frame keeps."""
    n_frames, n, width = tokens.shape
    quiet = sorted(range(width), key=lambda c: tokens[..., c].var(correction=0).item())[: width // 2]
    unit = tokens[..., quiet] / tokens[..., quiet].norm(dim=-1, keepdim=True)

    def like(token, mean):
        square = ((token - mean) ** 2).sum().item()
        return sum(math.exp(-square / (2 * a)) for a in (1 / 8, 1 / 4, 1 / 2, 1, 2))

    of_video = [[like(unit[f, j], unit.mean((0, 1))) for j in range(n)] for f in range(n_frames)]
    of_frame = [[like(unit[f, j], unit[f].mean(0)) for j in range(n)] for f in range(n_frames)]
    powers = [math.exp(-(sum(row) / n - sum(of_video[0]) / n) / 0.01) for row in of_video]
    chosen = []
    for f in range(n_frames):
        share = 1 + powers[f] / sum(powers) - 1 / n_frames
        count = max(1, round(min(1, ratio * share) * n))
        chosen.append(sorted(range(n), key=lambda j: of_video[f][j] + of_frame[f][j])[:count])
    return chosen


def test_a_batch_is_its_samples_alone_in_any_order():
    seen = filmed(*MIXED)
    for i in range(len(MIXED)):
        single, order = alone(seen, i), torch.randperm(int(seen.counts[i]), generator=torch.Generator().manual_seed(i))
        torch.testing.assert_close(vidcom2(single)[0], vidcom2(seen)[i, : len(order)])
        turned = part_of(single, 0, torch.arange(2), order)
        torch.testing.assert_close(vidcom2(turned)[0], vidcom2(single)[0, order], atol=1e-4, rtol=1e-4)


def test_fewer_tokens_than_frames_are_one_each():
    kept = torch.tensor(kept_by(vidcom2(filmed([video(1, 8, 5, 6)]))[0], 3))
    assert len((kept // 5).unique()) == 3


@pytest.mark.parametrize("tokens", [torch.zeros(3, 4, 6), torch.ones(3, 4, 1), torch.ones(1, 1, 1)])
def test_equal_tokens_and_a_single_channel_have_scores(tokens):
    assert vidcom2(filmed([tokens])).isfinite().all()


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ValueError, match=r"temperature=0\.0 must"):
        vidcom2(filmed(MIXED[0]), temperature=0.0)
