"""DyCoke's temporal stage against its official code's numbers, and in plain loops."""

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, part_of
from autoprune_lab.selection.dycoke import Dycoke
from autoprune_lab.selection.scorers import uniform
from tests.support.films import filmed, video
from tests.support.goldens import goldens

NONE = torch.tensor([0])


def recovered(evidence, counts, in_place=False):
    counts = torch.tensor(counts)
    return Dycoke(in_place)(evidence, uniform(evidence), 0 * counts, counts)


@pytest.mark.parametrize("golden", goldens("dycoke"), ids=str)
def test_official_numbers(golden):
    tokens = golden.inputs["tokens"]
    seen, count = filmed([tokens]), len(golden.outputs["kept"])
    survivors = recovered(seen, [count])
    slots = survivors.keep[0].nonzero().flatten()
    kept = survivors.index[0, slots]
    per_frame = (kept // tokens.shape[1]).bincount(minlength=len(tokens))
    golden.check(kept=kept, per_frame=per_frame)
    assert torch.equal(survivors.hidden[0, slots], tokens.flatten(0, 1)[kept])
    assert kept.sort().values.tolist() == recovered(seen, [count], True).keep[0].nonzero().flatten().tolist()


def of_one_video(tokens, k):
    """The tokens that one video keeps, in order: whole frames, the k least alike of thinned ones."""
    n_frames, n = tokens.shape[:2]
    partner = {f: f - 1 for f in range(1, n_frames, 2)} | {f + 2: f for f in range(0, n_frames - 4, 4)}
    kept = []
    for f in range(n_frames):
        order = list(range(n))
        if f in partner:
            order.sort(key=lambda j: torch.cosine_similarity(tokens[f, j], tokens[partner[f], j], dim=0).item())
            order = order[:k]
        elif n_frames > 1 and f == n_frames - 1 and n_frames % 2:
            order = []
        kept += [f * n + j for j in order]
    return kept


@pytest.mark.parametrize("k", [0, 1, 5, 8])
def test_plain_loops_on_prompts_of_images_and_videos(k):
    ends = torch.ones(1, 6)
    samples = [
        [video(0, 7, 9, 6), ends, video(1, 1, 5, 6)],
        [video(2, 1, 4, 6), video(3, 2, 9, 6), video(4, 10, 9, 6)],
        [video(5, 3, 9, 6)],
    ]
    expected = []
    for sample in samples:
        at, kept = 0, []
        for part in sample:
            chosen = of_one_video(part, k) if part.ndim == 3 else [0]
            kept += [at + i for i in chosen]
            at += part[..., 0].numel()
        expected.append(kept)
    seen = filmed(*samples)
    survivors = recovered(seen, [len(kept) for kept in expected])
    for i, kept in enumerate(expected):
        assert survivors.index[i, survivors.keep[i]].tolist() == kept
        single = recovered(alone(seen, i), [len(kept)])
        assert single.index[0, single.keep[0]].tolist() == kept


@pytest.mark.parametrize("count", range(0, 29, 4))
def test_any_count_stays_and_what_a_larger_one_drops_a_smaller_one_drops(count):
    seen = filmed([video(0, 7, 4, 6)])
    fewer, more = (recovered(seen, [n], True).keep[0] for n in (max(0, count - 1), count))
    assert more.sum() == count
    assert not (fewer & ~more).any()


def test_a_sample_of_which_nothing_is_dropped_stays_as_it_is():
    seen = filmed([video(0, 6, 4, 6)], [video(1, 6, 4, 6)])
    survivors = Dycoke()(seen, uniform(seen), torch.tensor([24, 0]), torch.tensor([0, 12]))
    assert survivors.index[0].tolist() == list(range(24))
    assert survivors.keep.sum(1).tolist() == [24, 12]


def test_too_few_for_the_whole_frames_are_the_best_scored_of_them():
    seen = filmed([video(0, 6, 4, 6)])
    scores = torch.arange(24.0)[None]
    keep = Dycoke(in_place=True)(seen, scores, NONE, torch.tensor([5])).keep[0]
    assert keep.nonzero().flatten().tolist() == [3, 16, 17, 18, 19]  # of frames 0 and 4


def test_frames_that_an_earlier_cut_left_unlike_are_refused():
    seen = part_of(filmed([video(0, 3, 4, 6)]), 0, torch.arange(2), torch.arange(11))
    with pytest.raises(ValueError, match=r"dycoke compares whole frames, .* max_cuts=1"):
        recovered(seen, [5])
