"""Gates: a full-length run with shut gates is the pruned run; what a token adds in part is what it adds when open."""

import numpy as np
import pytest
import torch
from arms import CLOSE, mixed, model, pruner
from families import FAMILIES

from autoprune_lab.decoder.gates import Gate, _gated_attention, gated
from autoprune_lab.decoder.layout import Prompt

N_KEYS, TOKEN = 7, 3


class Module:
    def __init__(self, gate):
        self.config = type("Config", (), {"gate": gate})


def attention(shut, more, mask=None):
    """Of two samples, two query heads for each of two key heads; `shut` are the keys that nobody else sees."""
    made = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, N_KEYS, 4, generator=made) for heads in (4, 2, 2))
    flags, near = torch.zeros(2, N_KEYS, dtype=torch.bool), torch.zeros(2, N_KEYS)
    flags[:, shut] = True
    near[:, TOKEN] = 1.0
    return _gated_attention(Module(Gate(flags, near, torch.full((2,), more))), query, key, value, mask)[0]


def test_a_token_more_adds_what_its_open_gate_does():
    torch.testing.assert_close(attention([TOKEN, 5], more=1.0), attention([5], more=0.0))
    assert not torch.allclose(attention([TOKEN, 5], more=0.0), attention([5], more=0.0))


def test_a_mask_of_booleans_and_one_of_addends_hide_alike():
    flags = torch.ones(N_KEYS, N_KEYS, dtype=torch.bool).tril()[None, None]
    numbers = torch.zeros(flags.shape).masked_fill(~flags, torch.finfo(torch.float32).min)
    expected = attention([5], more=0.0)
    torch.testing.assert_close(attention([5], 0.0, flags), expected)
    torch.testing.assert_close(attention([5], 0.0, numbers), expected)


def gates_of(inputs, prompt, samples):
    """Shut for what was dropped, by the trace."""
    n_layers, width = len(samples[0].kept), inputs["input_ids"].shape[1]
    gates = []
    for layer in range(n_layers):
        shut = torch.zeros(len(samples), width, dtype=torch.bool)
        for row, sample in enumerate(samples):
            gone = np.setdiff1d(np.arange(sample.geometry.n_vision), sample.kept[layer])
            shut[row, prompt.stage.vision.slots[row][torch.as_tensor(gone, dtype=torch.long)]] = True
        gates.append(Gate(shut, torch.zeros_like(shut, dtype=torch.float32), torch.zeros(len(samples))))
    return gates


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_vl"])
def test_a_run_with_shut_gates_is_the_pruned_run(name):
    net, inputs = model(name), FAMILIES[name].batch(mixed(name), "left", extra=1)
    with torch.no_grad(), pruner("stairs", "original").attach(net, keep_indices=True) as trace:
        expected = net(**inputs).logits[:, -1]
    prompt = Prompt.read(inputs["input_ids"], inputs["attention_mask"], net_ids(net))
    wanted = [weight.requires_grad for weight in net.parameters()]
    with torch.no_grad(), gated(net, gates_of(inputs, prompt, trace.samples)):
        found = net(**inputs).logits[:, -1]
    torch.testing.assert_close(found, expected, **CLOSE)
    with torch.no_grad():
        whole = net(**inputs).logits[:, -1]
    assert not torch.allclose(whole, expected, **CLOSE)  # and nothing is left on the model
    assert [weight.requires_grad for weight in net.parameters()] == wanted


def net_ids(net):
    from autoprune_lab.decoder.anatomy import Anatomy

    return Anatomy.of(net).visual_ids
