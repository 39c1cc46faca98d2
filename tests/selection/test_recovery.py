"""Recovery: fills the planned counts, and may rewrite the tokens that stay."""

import pytest
import torch
from tiny_models import PATCHES, batch, sample, tiny_llava

from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.recovery import Survivors, drop, top_n
from policies.layerwise import LayerwisePolicy


@pytest.fixture(scope="module")
def model():
    return tiny_llava()


def test_a_recovery_may_rewrite_the_tokens_that_stay(model):
    def zeros(evidence, scores, kept, merged):
        return Survivors(drop(evidence, scores, kept, merged).keep, torch.zeros_like(evidence.hidden))

    inputs = batch([sample(1)])
    plain = Pruner(LayerwisePolicy((0.5,), (0.5,)))
    blank = Pruner(LayerwisePolicy((0.5,), (0.5,)), recovery=zeros)
    logits = []
    for pruner in (plain, blank):
        with torch.no_grad(), pruner.attach(model) as trace:
            logits.append(model(**inputs).logits[0, -1])
        assert trace.samples[0].counts[-1] == PATCHES // 2
    assert (logits[0] - logits[1]).abs().max() > 0.05


def test_a_recovery_that_miscounts_is_refused(model):
    def everything(evidence, scores, kept, merged):
        return Survivors(evidence.vision_mask)

    pruner = Pruner(LayerwisePolicy((0.5,), (0.5,)), recovery=everything)
    with (
        torch.no_grad(),
        pruner.attach(model),
        pytest.raises(ValueError, match="everything must keep exactly"),
    ):
        model(**batch([sample(1)]))


def test_top_n_breaks_ties_towards_the_lower_index():
    scores = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    keep = top_n(scores, torch.tensor([3, 2]))
    assert keep.int().tolist() == [[1, 1, 0, 1, 0], [1, 1, 0, 0, 0]]
