"""`labels=`: the loss of a pruned call is the mean over the positions whose logits exist."""

import pytest
import torch
from arms import model, pruner
from families import FAMILIES, IMAGE
from torch.nn.functional import cross_entropy


def asked(name, side):
    """A padded batch, labels at every real token, and the arms' pruner on it."""
    sample = FAMILIES[name].sample
    samples = [sample(1), sample(2, n_images=2, before=3, after=5), sample(3, n_images=0), sample(4, after=0)]
    inputs = FAMILIES[name].batch(samples, side, extra=1)
    return inputs, inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)


def expected_loss(logits, inputs, labels, records):
    """Over every label whose predecessor is text, or a picture's token that was kept in the last layer."""
    total, n = 0.0, 0
    for row, ids, mask, target, record in zip(
        logits, inputs["input_ids"], inputs["attention_mask"].bool(), labels, records, strict=True
    ):
        exists = mask.clone()
        visual = ((ids == IMAGE) & mask).nonzero().flatten()[: record.geometry.n_vision]
        exists[visual] = False
        exists[visual[record.kept[-1]]] = True
        counted = exists[:-1] & (target[1:] != -100)
        total += cross_entropy(row[:-1][counted], target[1:][counted], reduction="sum")
        n += int(counted.sum())
    return total / n


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_vl"])
def test_a_dropped_position_does_not_count(name, side):
    inputs, labels = asked(name, side)
    given = labels.clone()
    with torch.no_grad(), pruner("adaptive", "original").attach(model(name), keep_indices=True) as trace:
        out = model(name)(**inputs, labels=labels)
    torch.testing.assert_close(out.loss, expected_loss(out.logits, inputs, labels, trace.samples), atol=1e-5, rtol=0)
    assert torch.equal(labels, given)


def test_labels_that_are_shifted_already_count_alike():
    inputs, labels = asked("llava", "left")
    shifted = torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), -100)], dim=1)
    with torch.no_grad(), pruner("stairs", "original").attach(model("llava")):
        expected = model("llava")(**inputs, labels=labels).loss
        got = model("llava")(**inputs, labels=labels, shift_labels=shifted).loss
    assert torch.equal(got, expected)


def test_labels_count_alike_where_a_hook_moves_the_arguments():
    hooks = pytest.importorskip("accelerate.hooks")

    class Moving(hooks.ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            return args, {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}

    net, (inputs, labels) = FAMILIES["llava"].build(), asked("llava", "left")
    with torch.no_grad(), pruner("stairs", "original").attach(net):
        expected = net(**inputs, labels=labels).loss
    hooks.add_hook_to_module(net, Moving())
    with torch.no_grad(), pruner("stairs", "original").attach(net):
        assert torch.equal(net(**inputs, labels=labels).loss, expected)


def test_the_loss_of_an_answer_is_its_own_behind_the_pruned_prompt():
    """forward(prompt + answer) with labels = the mean of what the pruned cache gives token by token."""
    one, answer, net = FAMILIES["llava"].sample(1), torch.tensor([7, 8, 9]), model("llava")
    longer = type(one)(torch.cat([one.ids, answer]), one.images)
    labels = longer.ids.clone()
    labels[: len(one.ids)] = -100
    arm = pruner("adaptive", "original")
    with torch.no_grad(), arm.attach(net, n_prompt=len(one.ids)):
        loss = net(**FAMILIES["llava"].batch([longer]), labels=labels[None]).loss
    with torch.no_grad(), arm.attach(net):
        first = net(**FAMILIES["llava"].batch([one]))
        rest = net(input_ids=answer[None, :-1], past_key_values=first.past_key_values)
    logits = torch.cat([first.logits[0, -1:], rest.logits[0]])
    torch.testing.assert_close(loss, cross_entropy(logits, answer), atol=2e-5, rtol=0)


def test_gradients_flow_through_the_tokens_that_stay():
    net, (inputs, labels) = FAMILIES["llava"].build(), asked("llava", "left")
    with pruner("adaptive", "original").attach(net) as trace:
        loss = net(**inputs, labels=labels).loss
    loss.backward()
    assert trace.samples[0].complexity > 0
    assert net.get_decoder().layers[-1].mlp.up_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("wanted", [20, torch.arange(5, 25)])
def test_labels_stand_at_the_logits_that_are_made(wanted):
    """Pictures last: the first positions stay, those whose logits are made do not."""
    net, one = model("llava"), FAMILIES["llava"].batch([FAMILIES["llava"].sample(1, before=9, after=2)])
    chosen = one["input_ids"][:, -wanted:] if isinstance(wanted, int) else one["input_ids"][:, wanted]
    with torch.no_grad(), pruner("stairs", "original").attach(net, keep_indices=True) as trace:
        out = net(**one, labels=chosen, logits_to_keep=wanted)
    exists = torch.ones_like(one["input_ids"], dtype=torch.bool)
    exists[0, 9 : 9 + 16] = False
    exists[0, 9 + torch.from_numpy(trace.samples[0].kept[-1])] = True
    exists = exists[0, -wanted:] if isinstance(wanted, int) else exists[0, wanted]
    expected = cross_entropy(out.logits[0, :-1][exists[:-1]], chosen[0, 1:][exists[:-1]])
    assert 0 < exists.sum() < 20
    torch.testing.assert_close(out.loss, expected, atol=1e-5, rtol=0)
