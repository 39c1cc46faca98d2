"""What `test_families` leaves out: padding between turns, a second with-block, other backends, openings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import CLOSE, generate, mixed, model, oracles, pruner, seen_by
from oracle import eager
from tiny_models import LLAVA, batch

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import prefill_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.recovery import drop
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("reattach", [False, True])
def test_a_second_turn_padded_at_its_start_equals_the_oracle(positions, reattach):
    net, inputs = model("llava"), batch(mixed("llava")[:2])
    question, turn = torch.tensor([[7, 8, 9, 10], [0, 0, 11, 12]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    mask = torch.cat([inputs["attention_mask"], turn], dim=1)
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    second = {"input_ids": question, "attention_mask": mask, "position_ids": position_ids[:, -4:]}
    with torch.no_grad(), pruner("stairs", positions).attach(net) as trace:
        cache = net(**inputs, position_ids=position_ids[:, :-4]).past_key_values
        if not reattach:
            logits = net(**second, past_key_values=cache).logits
    if reattach:
        with torch.no_grad(), pruner("adaptive", "original").attach(net):
            logits = net(**second, past_key_values=cache).logits
    for i, oracle in enumerate(oracles("llava", "stairs", positions, mixed("llava")[:2])):
        new = question[i][turn[i].bool()]
        expected = oracle.logits(torch.cat([oracle.sample.ids, new]), trace.samples[i].planned)
        torch.testing.assert_close(logits[i, -len(new) :], expected[-len(new) :], **CLOSE)


def test_other_attention_backends_prune_alike():
    inputs, arm = batch(mixed("llava")), pruner("adaptive", "original")
    with torch.no_grad(), arm.attach(model("llava")), arm.attach(eager(LLAVA)):
        a, b = (torch.stack(generate(net, inputs).logits) for net in (model("llava"), eager(LLAVA)))
    torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("scorer", [scorers.text_attention, scorers.last_token_attention])
def test_before_layer_0_there_is_no_attention_to_score_by(scorer):
    entrance = Pruner(FixedPolicy(layer=0, keep=0.5), scorer=scorer, probe_layer=-1)
    with torch.no_grad(), entrance.attach(model("llava")), pytest.raises(ValueError, match="no attention to go by"):
        model("llava")(**batch(mixed("llava")))


@torch.no_grad()
@pytest.mark.parametrize("budget", [Budget(flops_ratio=0.85, opening=20), MeanBudget(mean_tokens=6, opening=0.5)])
@pytest.mark.parametrize("recovery", [drop, ContextualMerge(in_place=True)])
def test_an_opened_batch_equals_its_opened_prompts(budget, recovery):
    """Of 16, 32, 0 and 16 visual tokens, so that 20 leave all but the second prompt whole."""
    net, policy = model("llava"), LogisticAdaptivePolicy(k0=1.0, gamma=0.0, x0=1.5)
    arm = Pruner(policy, budget, probe_layer=2, opening_scorer=scorers.feature_norm, recovery=recovery, max_cuts=3)
    geometries = [Geometry.from_config(net.config.text_config, n, 12) for n in (16, 32, 16)]
    arm = arm.calibrated(np.zeros(3), geometries)
    with arm.attach(net) as trace:
        together = net(**batch(mixed("llava"))).logits[:, -1]
        alone = torch.cat([net(**batch([one])).logits[:, -1] for one in mixed("llava")])
    torch.testing.assert_close(together, alone, **CLOSE)
    opened = arm.opens(np.array([16, 32, 0, 16])).tokens
    for i, (a, b) in enumerate(zip(trace.samples[:4], trace.samples[4:], strict=True)):
        assert a.counts.tolist() == a.planned.tolist() == b.counts.tolist()
        assert a.counts[:3].tolist() == [opened[i]] * 3
        assert (np.diff(a.counts, prepend=a.geometry.n_vision) < 0).sum() <= 3
        assert a.decoder_flops == b.decoder_flops == prefill_flops(a.geometry, a.counts)
    assert min(sample.counts[-1] for sample in trace.samples[:2]) < min(opened[:2])


def test_who_chooses_at_the_opening():
    seen = {"opening": [], "scorer": []}
    arm = Pruner(
        FixedPolicy(layer=4, keep=0.5), Budget(mean_tokens=6, opening=8), probe_layer=1,
        scorer=seen_by(scorers.feature_norm, seen["scorer"]), opening_scorer=seen_by(scorers.random, seen["opening"]),
    )  # fmt: skip
    with torch.no_grad():
        for one in (arm, replace(arm, opening_scorer=None)):
            with one.attach(model("llava")):
                model("llava")(**batch(mixed("llava")[:1]))
    assert [evidence.layer for evidence in seen["opening"]] == [-1]
    assert [evidence.layer for evidence in seen["scorer"]] == [3, -1, 3]


def test_an_opening_without_a_scorer_that_sees_names_the_remedy():
    arm = Pruner(FixedPolicy(layer=4, keep=0.5), Budget(mean_tokens=6, opening=8))
    with torch.no_grad(), arm.attach(model("llava")), pytest.raises(ValueError, match="for an opening: opening_scorer"):
        model("llava")(**batch(mixed("llava")))
