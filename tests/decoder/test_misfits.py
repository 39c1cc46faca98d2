"""What a user's own parts give in another form than asked for is refused in one line that names the part."""

from dataclasses import replace

import pytest
import torch
from arms import CLOSE, model, pruner
from families import FAMILIES
from transformers import DynamicCache

from autoprune_lab.decoder.extent import check_n_prompt
from autoprune_lab.schedule.policy import Signal, check_shape
from autoprune_lab.selection.recovery import Survivors, drop
from autoprune_lab.selection.scorers import last_token_attention
from policies.fixed import FixedPolicy

FAMILY = FAMILIES["llava"]


@torch.no_grad()
def refusal(**parts) -> str:
    """The line that a pruner with these parts ends in, on two prompts of 16 and of 32 visual tokens."""
    inputs = FAMILY.batch([FAMILY.sample(1), FAMILY.sample(2, n_images=2)])
    own = replace(pruner("adaptive", "original"), **{"scorer": last_token_attention} | parts)
    with own.attach(model("llava")), pytest.raises(ValueError, match=r"\A.+\Z") as error:
        model("llava")(**inputs)
    return str(error.value)


def given(value, change):
    """A part that gives `change` of what `value` gives."""

    def own_part(evidence, *more):
        return change(value(evidence, *more))

    return own_part


BITS = [
    (lambda bits: bits.sum(), "torch.float32 of shape ()"),
    (lambda bits: bits[:1], "torch.float32 of shape (1,)"),
    (lambda bits: bits[:, None], "torch.float32 of shape (2, 1)"),
    (lambda bits: bits.to(torch.complex64), "torch.complex64 of shape (2,)"),
    (lambda bits: bits.numpy(), "ndarray"),
    (lambda bits: None, "NoneType"),
]


@pytest.mark.parametrize(("change", "got"), BITS, ids=[got for _, got in BITS])
def test_complexities_of_another_form(change, got):
    line = refusal(complexity=given(pruner("adaptive", "original").complexity, change))
    assert line == f"complexity by own_part must be real numbers of shape (2,), got {got}"


SCORES = [
    (lambda scores: scores[0], "torch.float32 of shape (32,)"),
    (lambda scores: scores[:1], "torch.float32 of shape (1, 32)"),
    (lambda scores: scores[:, :-1], "torch.float32 of shape (2, 31)"),
    (lambda scores: torch.cat([scores, scores], 1), "torch.float32 of shape (2, 64)"),
    (lambda scores: scores > 0, "torch.bool of shape (2, 32)"),
    (lambda scores: (1000 * scores).long(), "torch.int64 of shape (2, 32)"),
    (lambda scores: scores.tolist(), "list"),
]


@pytest.mark.parametrize(("change", "got"), SCORES, ids=[got for _, got in SCORES])
def test_scores_of_another_form(change, got):
    own = pruner("stairs", "original")
    line = refusal(policy=own.policy, budget=None, scorer=given(last_token_attention, change))
    assert line == f"scores by own_part must be floating-point numbers of shape (2, 32), got {got}"


SURVIVORS = [
    (lambda given: given.keep, "Survivors, got torch.bool of shape (2, 32)"),
    (lambda given: Survivors(given.keep.long()), "`keep` as torch.bool of shape (2, 32), got torch.int64 of"),
    (lambda given: Survivors(given.keep[:, :-1]), "`keep` as torch.bool of shape (2, 32), got torch.bool of shape (2,"),
    (lambda given: Survivors(None), "`keep` as torch.bool of shape (2, 32), got NoneType"),
    (
        lambda given: Survivors(given.keep, hidden=torch.zeros(2, 32, 47)),
        "`hidden` as torch.float32 of shape (2, 32, 48), got torch.float32 of shape (2, 32, 47)",
    ),
    (
        lambda given: Survivors(given.keep, index=given.keep.float()),
        "`index` as torch.int64 of shape (2, 32), got torch.float32 of shape (2, 32)",
    ),
]


@pytest.mark.parametrize(("change", "said"), SURVIVORS, ids=[said for _, said in SURVIVORS])
def test_survivors_of_another_form(change, said):
    line = refusal(recovery=given(drop, change))
    assert line.startswith(f"recovery own_part must give {said}")


@pytest.mark.parametrize("shape", [None, [1.0] * 6, 0.5])
def test_a_shape_that_is_no_array(shape):
    with pytest.raises(ValueError, match=rf"gave a {type(shape).__name__}, expected an array of shape \(6,\)\Z"):
        check_shape(shape, Signal(6, 0.0), FixedPolicy(layer=2, keep=1.0))


@pytest.mark.parametrize("n_prompt", [3.5, True, "3", [28, 2.5], [None], {}])
def test_a_prompt_length_that_is_no_whole_number(n_prompt):
    with pytest.raises(ValueError, match="must be whole numbers of at least 1"):
        check_n_prompt(n_prompt)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("arm", ["stairs", "entrance"])
@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_a_prompt_s_cache_may_be_repeated(arm, positions, masked):
    net, new = model("llava"), torch.tensor([[7, 8], [9, 10], [11, 12]])
    inputs = FAMILY.batch([FAMILY.sample(1)], extra=2 * masked)
    with pruner(arm, positions).attach(net):
        alone = []
        for ids in new:
            mask = torch.cat([inputs["attention_mask"], torch.ones(1, 2, dtype=torch.long)], dim=1)
            cache = net(**inputs).past_key_values
            alone.append(net(input_ids=ids[None], attention_mask=mask, past_key_values=cache).logits[0])
        cache = net(**inputs).past_key_values
        cache.batch_repeat_interleave(3)
        masks = {"attention_mask": mask.repeat(3, 1)} if masked else {}
        together = net(input_ids=new, past_key_values=cache, **masks).logits
        torch.testing.assert_close(together, torch.stack(alone), **CLOSE)


@torch.no_grad()
def test_a_pruned_cache_that_lost_samples_or_tokens_is_refused():
    net, two = model("llava"), FAMILY.batch([FAMILY.sample(1), FAMILY.sample(2)])
    with pruner("stairs", "original").attach(net):
        cache = net(**two).past_key_values
        cache.batch_select_indices(torch.tensor([0]))
        with pytest.raises(ValueError, match="input_ids hold 1 samples, the pruned cache 2"):
            net(input_ids=torch.tensor([[7]]), past_key_values=cache)
        cache = net(**two).past_key_values
        cache.crop(-9)
        with pytest.raises(ValueError, match="cropped to 19 tokens, into the pictures or the padding of its pruned pr"):
            net(input_ids=torch.tensor([[7], [8]]), past_key_values=cache)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("arm", ["stairs", "entrance"])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
@torch.no_grad()
def test_the_text_that_ends_a_prompt_may_be_taken_back(name, arm, positions):
    """Given again, it gets the logits that it got the first time."""
    net, one = model(name), FAMILIES[name].batch([FAMILIES[name].sample(1)])
    cache, again = DynamicCache(config=net.config.get_text_config()), one["input_ids"][:, -3:]
    cache.activate_past_recording()  # of sliding windows
    with pruner(arm, positions).attach(net):
        first = net(**one, past_key_values=cache).logits
        cache.crop(-3)
        second = [net(input_ids=ids, past_key_values=cache).logits for ids in again.split([2, 1], dim=1)]
    torch.testing.assert_close(torch.cat(second, 1), first[:, -3:], **CLOSE)


@torch.no_grad()
def test_guidance_without_a_cache_decides_once():
    net, runs = model("llava"), []
    for use_cache in (True, False):
        with pruner("adaptive", "original").attach(net, keep_indices=True) as trace:
            ids = net.generate(
                **FAMILY.batch([FAMILY.sample(1)]), guidance_scale=1.5, max_new_tokens=5, do_sample=False,
                use_cache=use_cache, suppress_tokens=[63],
            )  # fmt: skip
        runs.append((ids.tolist(), [[kept.tolist() for kept in record.kept] for record in trace.samples]))
    assert len(runs[0][1]) == 2  # the prompt, and its last token alone, which guides
    assert runs[0] == runs[1]
