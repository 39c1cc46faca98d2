"""Operators by cut in a live decoder: each sample counts its own cuts, alone and in a batch; costs are the plan's."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from arms import CLOSE, mixed, model
from tiny_models import batch

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import staircase
from autoprune_lab.schedule.flops import prefill_flops
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.selection import scorers
from autoprune_lab.selection.by_cut import ByCut
from autoprune_lab.selection.recovery import drop
from policies.layerwise import LayerwisePolicy

SIZE = 32  # visual tokens of two pictures


@dataclass(frozen=True)
class TwoCuts(Policy):
    """Prompts with two pictures are cut at layers 2 and 3, with one at 3 and 4."""

    adaptive: ClassVar[bool] = True

    def shape(self, signal):
        first = 2 if signal.complexity == SIZE else 3
        return staircase(signal.n_layers, [first, first + 1], [0.75, 0.25])


def n_vision(evidence):
    return evidence.vision_mask.sum(1).float()


def arm(recovery):
    return Pruner(TwoCuts(), scorer=scorers.feature_norm, complexity=n_vision, recovery=recovery)


def spy(name, seen):
    """An operator that forgets, and writes down at which layer which samples lost tokens by it."""

    def forgets(evidence, scores, kept, merged):
        falls = kept.numpy() < evidence.counts
        seen.append((name, evidence.layer + 1, np.flatnonzero(falls).tolist()))
        return drop(evidence, scores, kept, merged)

    return forgets


@torch.no_grad()
def test_the_operator_is_that_of_the_sample_s_own_cut():
    seen, net = [], model("llava")
    two = ByCut(("merge", "pool"), merge=spy("merge", seen), pool=spy("pool", seen))
    with arm(two).attach(net) as trace:
        net(**batch(mixed("llava")))  # of 16, 32, 0 and 16 visual tokens
    assert seen == [("merge", 2, [1]), ("merge", 3, [0, 3]), ("pool", 3, [1]), ("pool", 4, [0, 3])]
    falls = [(np.flatnonzero(np.diff(one.counts)) + 1).tolist() for one in trace.samples]
    assert falls == [[3, 4], [2, 3], [], [3, 4]]


@torch.no_grad()
@pytest.mark.parametrize("operators", [("merge", "pool"), ("pool", "prune"), ("prune", "merge")])
def test_a_batch_equals_its_prompts_and_costs_what_is_planned(operators):
    net, pruner = model("llava"), arm(ByCut(operators))
    with pruner.attach(net) as trace:
        together = net(**batch(mixed("llava"))).logits[:, -1]
        alone = torch.cat([net(**batch([one])).logits[:, -1] for one in mixed("llava")])
    torch.testing.assert_close(together, alone, **CLOSE)
    for among, single in zip(trace.samples[:4], trace.samples[4:], strict=True):
        assert among.counts.tolist() == among.planned.tolist() == single.counts.tolist()
        assert among.decoder_flops == prefill_flops(among.geometry, among.counts)


@torch.no_grad()
def test_a_cut_before_the_probe_forgets_and_does_not_count():
    seen, net = [], model("llava")
    two = ByCut(("merge", "pool"), merge=spy("merge", seen), pool=spy("pool", seen))
    budget, policy = Budget(flops_ratio=0.6, opening=20), LayerwisePolicy((0.5, 0.75), (0.5, 0.25))
    opened = Pruner(policy, budget, scorer=scorers.feature_norm, recovery=two, max_cuts=3)
    with opened.attach(net) as trace:
        net(**batch(mixed("llava")[1:2]))
    assert [name for name, _, _ in seen] == ["merge", "merge", "pool"]
    assert [layer for _, layer, _ in seen] == [0, *(np.flatnonzero(np.diff(trace.samples[0].counts)) + 1)]
    assert trace.samples[0].counts[0] == 20
