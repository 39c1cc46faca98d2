"""Cluster merge: what the merged tokens are, where they stand, and that a batch changes nothing."""

import numpy as np
import official_reference
import pytest
import torch
from tiny_models import IMAGE, batch, sample, tiny_llava

from autoprune_lab.plugins.plain_evidence import evidence_of, random_attention
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.official_budget import candidates
from autoprune_lab.selection import cluster_merge
from autoprune_lab.selection.cluster_merge import ClusterMerge, density_peaks
from autoprune_lab.selection.scorers import random, text_attention
from policies.layerwise import LayerwisePolicy

KEPT, MERGED = torch.tensor([20, 9, 12]), torch.tensor([2, 1, 0])
REAL = torch.ones(1, 6, dtype=torch.bool)
IN_PLACE, AFTER = ClusterMerge(), ClusterMerge(in_place=False)


def merged_evidence(recovery):
    evidence = evidence_of(random_attention(0, 3, 2, 5, 60), [60, 20, 12], [5, 3, 4])
    scores = text_attention(evidence)
    return evidence, scores, recovery(evidence, scores, KEPT, MERGED)


def test_clusters_take_up_the_best_of_the_dropped():
    evidence, scores, survivors = merged_evidence(IN_PLACE)
    changed = (survivors.hidden != evidence.hidden).any(-1)
    for i in range(3):
        order = order_of(scores, evidence, i)
        kept, n_real = order[: KEPT[i]], int(evidence.vision_mask[i].sum())
        pool = order[KEPT[i] :][: int(candidates(np.array(n_real - int(KEPT[i])))) if MERGED[i] else 0]
        stays = survivors.keep[i].nonzero().flatten().tolist()
        assert set(kept) < set(stays) if MERGED[i] else set(kept) == set(stays)
        assert len(stays) == KEPT[i] + MERGED[i]
        centres = set(stays) - set(kept)
        assert centres <= set(pool)
        assert set(changed[i].nonzero().flatten().tolist()) == centres
    pool = evidence.hidden[1, order_of(scores, evidence, 1)[9:13]]  # one cluster: the mean of its pool
    (centre,) = set(survivors.keep[1].nonzero().flatten().tolist()) - set(order_of(scores, evidence, 1)[:9])
    torch.testing.assert_close(survivors.hidden[1, centre], pool.mean(0), atol=1e-5, rtol=0)


def order_of(scores, evidence, i):
    return scores[i].masked_fill(~evidence.vision_mask[i], -1).argsort(descending=True).tolist()


def test_merged_tokens_may_stand_behind_the_kept_ones():
    evidence, scores, behind = merged_evidence(AFTER)
    in_place = IN_PLACE(evidence, scores, KEPT, MERGED)
    for i in (0, 1):
        slots, kept = behind.keep[i].nonzero().flatten(), order_of(scores, evidence, i)[: KEPT[i]]
        assert behind.index[i, slots[: KEPT[i]]].tolist() == sorted(kept)
        torch.testing.assert_close(behind.hidden[i, slots[: KEPT[i]]], evidence.hidden[i, sorted(kept)])
        centres = behind.index[i, slots[KEPT[i] :]]
        torch.testing.assert_close(behind.hidden[i, slots[KEPT[i] :]], in_place.hidden[i, centres])


def test_centres_are_dense_and_apart():
    points = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    order = density_peaks(torch.cdist(points, points)[None], REAL, torch.tensor([2]), 1e-6 * torch.arange(6)[None], 2)
    assert sorted(points[order[0, :2]].flatten().round().tolist()) == [0.0, 5.0]


def test_distances_are_per_square_root_of_the_width():
    points = torch.tensor([[[0.0] * 4, [2.0] * 4, [3.0, 0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[0, 4, 3], [4, 0, 13**0.5], [3, 13**0.5, 0]]]) / 2
    torch.testing.assert_close(cluster_merge.distances(points), expected)


def test_tokens_that_lie_close_together_far_from_the_origin_are_told_apart(monkeypatch):
    monkeypatch.setattr(cluster_merge, "_NOISE", 1e-3)
    evidence = evidence_of(random_attention(5, 1, 2, 5, 150), width=64)
    evidence.source.hidden_ = 100 + 0.1 * evidence.source.hidden_
    scores = text_attention(evidence)
    survivors = AFTER(evidence, scores, torch.tensor([10]), torch.tensor([5]))
    pool = torch.tensor(order_of(scores, evidence, 0)[10:53])
    noise = 1e-3 * random(evidence)[0, pool].double().numpy()
    means, centres = official_reference.cluster(evidence.hidden[0, pool].double().numpy(), 5, noise)
    slots = survivors.keep[0].nonzero().flatten()[10:]
    assert survivors.index[0, slots].tolist() == pool[torch.from_numpy(centres)].tolist()
    torch.testing.assert_close(survivors.hidden[0, slots].double(), torch.from_numpy(means), atol=1e-4, rtol=0)


@pytest.mark.parametrize("setting", [{"recovery": IN_PLACE}, {"recovery": AFTER, "positions": "compact"}])
def test_a_padded_batch_equals_the_single_runs_within_the_budget(setting):
    model = tiny_llava()
    pruner = Pruner(LayerwisePolicy((0.4, 0.7), (0.6, 0.3)), Budget(flops_ratio=0.8), **setting)
    samples = [sample(1), sample(2, n_images=2, before=3, after=5), sample(3, n_images=0)]
    with torch.no_grad(), pruner.attach(model) as trace:
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "suppress_tokens": [IMAGE]}
        together = model.generate(**batch(samples), **options)[:, -8:]
        alone = [model.generate(**batch([one]), **options)[0, -8:] for one in samples]
    assert torch.equal(together, torch.stack(alone))
    for record in trace.samples[:2]:
        np.testing.assert_array_equal(record.counts, record.planned)
        assert 0.7 < record.flops_ratio <= 0.8


def test_moving_tokens_needs_compact_positions():
    model, pruner = tiny_llava(), Pruner(LayerwisePolicy((0.5,), (0.5,)), recovery=AFTER)
    with torch.no_grad(), pruner.attach(model), pytest.raises(ValueError, match="positions='compact'"):
        model(**batch([sample(1)]))
