"""Contextual merge against VisionZip in plain loops."""

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.scorers import text_attention

COUNTS, KEPT, MERGED = [60, 41, 12], torch.tensor([20, 9, 12]), torch.tensor([6, 5, 0])


def visionzip(hidden, scores, n_kept, n_merged):
    """Kept tokens, targets and their means, as the paper's code computes them for one picture."""
    kept = sorted(scores.argsort(descending=True)[:n_kept].tolist())
    rest = [i for i in range(len(hidden)) if i not in kept]
    targets = rest[:: max(1, len(rest) // n_merged)][:n_merged] if n_merged else []
    groups = {target: [target] for target in targets}
    for i in set(rest) - set(targets):
        if targets:
            groups[max(targets, key=lambda t: torch.cosine_similarity(hidden[i], hidden[t], dim=0).item())].append(i)
    return kept, targets, [hidden[members].mean(0) for members in groups.values()]


@pytest.mark.parametrize("in_place", [False, True])
def test_equals_visionzip_in_plain_loops(in_place):
    evidence = evidence_of(random_attention(0, 3, 2, 5, 60), COUNTS, [5, 3, 4])
    scores = text_attention(evidence)
    survivors = ContextualMerge(in_place=in_place)(evidence, scores, KEPT, MERGED)
    for i, count in enumerate(COUNTS):
        hidden = evidence.hidden[i, :count]
        kept, targets, means = visionzip(hidden, scores[i, :count], int(KEPT[i]), int(MERGED[i]))
        slots = survivors.keep[i].nonzero().flatten()
        index = slots if in_place else survivors.index[i, slots]
        assert index.tolist() == (sorted(kept + targets) if in_place else kept + targets)
        expected = dict(zip(kept + targets, [*hidden[kept], *means], strict=True))
        stays = torch.stack([expected[j] for j in index.tolist()])
        torch.testing.assert_close(survivors.hidden[i, slots], stays, atol=1e-6, rtol=0)


def test_every_dropped_token_is_in_one_mean():
    evidence = evidence_of(random_attention(1, 1, 2, 5, 50))
    evidence.source.hidden_ = torch.cat([torch.eye(50)[None] * 3, torch.ones(1, 50, 1)], dim=-1)
    survivors = ContextualMerge()(evidence, text_attention(evidence), torch.tensor([10]), torch.tensor([4]))
    sums = survivors.hidden[0, survivors.keep[0]][10:, :50]
    parts = sums.sum(0)
    assert (parts > 0).sum() == 40
    assert ((sums > 0).sum(0) <= 1).all()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share="):
        ContextualMerge(share)
