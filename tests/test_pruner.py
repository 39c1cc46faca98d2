"""The machine that prunes, against an oracle."""

import numpy as np
import pytest
import torch
from oracle import Oracle
from tiny_models import IMAGE, batch, sample, tiny_llava

from autoprune_lab import scoring
from autoprune_lab.budget import Budget
from autoprune_lab.decoder import decode, masks, prefill
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

STAIRS = Pruner(LayerwisePolicy(depths=(2 / 6, 4 / 6), keep=(0.5, 0.2)), probe_layer=1)
ADAPTIVE = Pruner(
    LogisticAdaptivePolicy(k0=1.5, gamma=0.5, x0=3.0), Budget(flops_ratio=0.75),
    scorer=scoring.text_attention, probe_layer=0,
)  # fmt: skip
ARMS = {"stairs": (STAIRS, "last"), "adaptive": (ADAPTIVE, "text")}
MIXED = [
    sample(1),
    sample(2, n_images=2, before=3, after=5),
    sample(3, n_images=0),
    sample(4, before=9, after=3),
]
STEPS = 20


@pytest.fixture(scope="module")
def model():
    return tiny_llava()


def generate(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=STEPS, min_new_tokens=STEPS, suppress_tokens=[IMAGE],
        return_dict_in_generate=True, output_logits=True, **{"do_sample": False, **options},
    )  # fmt: skip


def run_both(model, pruner, rank_by, samples):
    """Largest logit difference to the oracle over all decoded steps; the trace; what the oracle kept."""
    inputs = batch(samples)
    with torch.no_grad(), pruner.attach(model, keep_indices=True) as trace:
        out = generate(model, inputs)
    worst, kept = 0.0, []
    for i, (one, record) in enumerate(zip(samples, trace.samples, strict=True)):
        oracle = Oracle(model, one, rank_by)
        for step, logits in enumerate(out.logits):
            decoded = out.sequences[i, inputs["input_ids"].shape[1] :][:step]
            expected = oracle.logits(torch.cat([one.ids, decoded]), record.planned)[-1]
            worst = max(worst, (logits[i] - expected).abs().max().item())
        kept.append(oracle.kept)
    return worst, trace, kept


@pytest.mark.parametrize("arm", ARMS)
def test_pruned_run_equals_the_masked_oracle_in_every_decoded_step(model, arm):
    error, trace, kept = run_both(model, *ARMS[arm], MIXED)
    assert error <= 5e-5
    assert [s.counts[-1] < s.geometry.n_vision for s in trace.samples] == [True, True, False, True]
    for record, wanted in zip(trace.samples, kept, strict=True):
        for layer in range(6):
            np.testing.assert_array_equal(record.kept[layer], wanted[layer])


@pytest.mark.parametrize("arm", ARMS)
def test_pruning_changes_the_logits(model, arm):
    inputs = batch(MIXED[:1])
    with torch.no_grad():
        full = model(**inputs).logits[0, -1]
        with ARMS[arm][0].attach(model):
            pruned = model(**inputs).logits[0, -1]
    assert (full - pruned).abs().max() > 0.1


def truncated(rotary, stage):
    return tuple(part[:, : stage.index.shape[1]].expand(len(stage.index), -1, -1) for part in rotary)


PLANTED = {
    "rotary truncated": (masks, "narrow_rotary", truncated),
    "padding attended": (masks, "visible_keys", lambda stage: torch.ones_like(stage.valid)),
    "no decode mask": (decode, "decode_mask", lambda *arguments: None),
    "cut forgotten": (prefill, "must_cut", lambda falls: False),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_by_the_oracle(model, monkeypatch, bug):
    monkeypatch.setattr(*PLANTED[bug])
    error, _, _ = run_both(model, STAIRS, "last", MIXED)
    assert error > 1e-2


@pytest.mark.parametrize(
    ("samples", "side", "tolerance"),
    [
        (MIXED, "left", 0.0),
        (MIXED[:1], "left", 0.0),
        (MIXED, "right", 1e-5),
    ],  # right: columns move, sums re-round
)
def test_keep_all_through_the_gather_path_equals_the_unpruned_model(model, monkeypatch, samples, side, tolerance):
    gathered = []
    narrow = masks.narrow_rotary
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
    monkeypatch.setattr(masks, "narrow_rotary", lambda *a: gathered.append(1) or narrow(*a))
    inputs = batch(samples, side)
    with torch.no_grad():
        full = model(**inputs).logits
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(model):
            kept = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    assert gathered
    assert (kept - full)[real].abs().max() <= tolerance


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_the_single_runs(model, arm, side):
    pruner, inputs = ARMS[arm][0], batch(MIXED, side, extra=3)
    with torch.no_grad(), pruner.attach(model, keep_indices=True) as trace:
        logits = model(**inputs).logits
        singles = [model(**batch([one])).logits[0] for one in MIXED]
    together, alone = trace.samples[: len(MIXED)], trace.samples[len(MIXED) :]
    for i, (a, b) in enumerate(zip(together, alone, strict=True)):
        kept_text = torch.ones(len(MIXED[i].ids), dtype=torch.bool)
        kept_text[MIXED[i].ids == IMAGE] = False
        mine = logits[i][inputs["attention_mask"][i].bool()]
        torch.testing.assert_close(mine[kept_text], singles[i][kept_text], atol=2e-5, rtol=0)
        assert a.scoring_flops == b.scoring_flops
        assert a.decoder_flops == b.decoder_flops
        assert (a.complexity, b.complexity) == (None, None) or a.complexity == pytest.approx(b.complexity, abs=1e-5)
        assert all(np.array_equal(x, y) for x, y in zip(a.kept, b.kept, strict=True))


@pytest.mark.parametrize("arm", ARMS)
def test_beam_search_on_a_batch_equals_the_single_runs(model, arm):
    with torch.no_grad(), ARMS[arm][0].attach(model):
        together = generate(model, batch(MIXED), num_beams=3).sequences[:, -STEPS:]
        alone = [generate(model, batch([one]), num_beams=3).sequences[0, -STEPS:] for one in MIXED]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("reattach", [False, True])
def test_a_second_turn_on_the_pruned_cache_equals_the_oracle(model, reattach):
    question = torch.tensor([[7, 8, 9, 10], [0, 0, 11, 12]])  # the second sample's turn is padded
    inputs, turn = batch(MIXED[:2]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    mask = torch.cat([inputs["attention_mask"], turn], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs["position_ids"] = positions[:, :-4]
    second = {"input_ids": question, "attention_mask": mask, "position_ids": positions[:, -4:]}
    with torch.no_grad(), STAIRS.attach(model) as trace:
        cache = model(**inputs).past_key_values
        if not reattach:
            logits = model(**second, past_key_values=cache).logits
    if reattach:
        with torch.no_grad(), STAIRS.attach(model):
            logits = model(**second, past_key_values=cache).logits
    for i, one in enumerate(MIXED[:2]):
        new = question[i][turn[i].bool()]
        expected = Oracle(model, one, "last").logits(torch.cat([one.ids, new]), trace.samples[i].planned)
        torch.testing.assert_close(logits[i, -len(new) :], expected[-len(new) :], atol=5e-5, rtol=0)


def test_other_attention_backends_prune_alike(model):
    eager = tiny_llava(attention="eager")
    inputs = batch(MIXED)
    with torch.no_grad(), ADAPTIVE.attach(model), ADAPTIVE.attach(eager):
        a, b = (torch.stack(generate(m, inputs).logits) for m in (model, eager))
    torch.testing.assert_close(a, b, atol=5e-5, rtol=0)
