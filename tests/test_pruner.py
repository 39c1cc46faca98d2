"""What `test_families` leaves out: padding between turns, a second with-block, other backends, no attention yet."""

import pytest
import torch
from arms import CLOSE, generate, mixed, model, oracles, pruner
from oracle import eager
from tiny_models import LLAVA, batch

from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from policies.fixed import FixedPolicy


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
