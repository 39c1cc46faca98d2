"""What only a GPU shows: its attention kernels against the oracle on the CPU, bfloat16, layers on several devices.

`python -m pytest -m gpu tests/decoder/test_gpu.py`, also at the start of `benchmarks/gpu.sh`.
"""

import copy
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from arms import ARMS, STEPS, generate, mixed, oracles, pruner
from families import FAMILIES
from torch._dynamo.utils import counters
from transformers import CompileConfig
from transformers.utils import is_flash_attn_2_available

from autoprune_lab.decoder import prefill
from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.models.checkpoint import load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CLOSE = {"atol": 2e-4, "rtol": 0}
families = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """float32 all through: cuDNN would round the inputs of a vision tower's convolution to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@cache
def on_gpu(name, dtype=torch.float32):
    return FAMILIES[name].build().to("cuda", dtype)


def batch(name, samples, dtype=torch.float32):
    inputs = FAMILIES[name].batch(samples)
    return {k: v.to("cuda", dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()}


@pytest.mark.parametrize("arm", ARMS)
@families
@torch.no_grad()
def test_every_decoded_step_equals_the_oracle(name, arm):
    with pruner(arm, "original").attach(on_gpu(name), keep_indices=True) as trace:
        out = generate(on_gpu(name), batch(name, mixed(name)))
    logits, answers = torch.stack(out.logits, 1).cpu(), out.sequences[:, -STEPS:-1].cpu()
    for i, oracle in enumerate(oracles(name, arm, "original", mixed(name))):
        ids = torch.cat([oracle.sample.ids, answers[i]])
        expected = oracle.logits(ids, trace.samples[i].planned)[-STEPS:]
        torch.testing.assert_close(logits[i], expected, **CLOSE)
        assert [kept.tolist() for kept in trace.samples[i].kept] == [kept.tolist() for kept in oracle.kept]


@families
@torch.no_grad()
def test_keep_all_through_the_gather_path_equals_the_unpruned_model_in_bfloat16(monkeypatch, name):
    net, inputs = on_gpu(name, torch.bfloat16), batch(name, mixed(name), torch.bfloat16)
    real = inputs["attention_mask"].bool()
    expected = net(**inputs).logits[real]
    monkeypatch.setattr(prefill, "must_cut", lambda falls: True)
    with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(net):
        logits = net(**inputs).logits[real]
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("arm", ARMS)
@families
@torch.no_grad()
def test_bfloat16_prunes_as_planned(name, arm):
    dtype = torch.bfloat16
    net = on_gpu(name, dtype)
    with pruner(arm, "original").attach(net) as trace:
        out = generate(net, batch(name, mixed(name), dtype), 4)
    for record in trace.samples:
        np.testing.assert_array_equal(record.counts, record.planned)
    longest = np.max([record.counts + record.geometry.n_text for record in trace.samples], axis=0)
    np.testing.assert_array_equal([layer.get_seq_length() for layer in out.past_key_values.layers], longest + 3)
    assert all(logits.isfinite().all() for logits in out.logits)


@pytest.mark.usefixtures("untyped")
def test_decode_steps_become_cuda_graphs_that_answer_as_a_growing_cache_does():
    net, inputs = on_gpu("llava"), batch("llava", mixed("llava"))
    counters.clear()
    with pruner("stairs", "compact").attach(net):
        expected = generate(net, inputs)
        graphs = generate(net, inputs, cache_implementation="static", compile_config=CompileConfig(fullgraph=True))
    assert counters["inductor"]["cudagraph_skips"] == 0
    assert counters["stats"]["unique_graphs"] == 1
    assert torch.equal(graphs.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(graphs.logits), torch.stack(expected.logits), **CLOSE)


@torch.no_grad()
def test_flash_attention_equals_sdpa():
    if not is_flash_attn_2_available():
        pytest.skip("flash-attn is not installed")
    name, dtype = "llava", torch.bfloat16
    flash = FAMILIES[name].build("flash_attention_2").to("cuda", dtype)
    inputs, logits = batch(name, mixed(name), dtype), []
    for net in (on_gpu(name, dtype), flash):
        with pruner("stairs", "original").attach(net) as trace:
            logits.append(net(**inputs).logits[:, -1])
        assert all((record.counts == record.planned).all() for record in trace.samples)
    torch.testing.assert_close(logits[1], logits[0], atol=0.1, rtol=0.05)


@torch.no_grad()
def test_layers_on_two_devices_are_pruned_alike():
    accelerate = pytest.importorskip("accelerate")
    name = "llava"
    whole, inputs = on_gpu(name), batch(name, mixed(name))
    apart = copy.deepcopy(whole).cpu()
    places = {"model.vision_tower": 0, "model.multi_modal_projector": 0, "lm_head": 0}
    places |= {f"model.language_model.layers.{i}": "cpu" if i in (2, 4) else 0 for i in range(6)}
    places |= {f"model.language_model.{part}": 0 for part in ("embed_tokens", "norm", "rotary_emb")}
    apart = accelerate.dispatch_model(apart, places, main_device=0)
    runs = []
    for net in (whole, apart):
        with pruner("adaptive", "original").attach(net) as trace:
            runs.append((net(**inputs).logits[:, -1], trace.samples))
    torch.testing.assert_close(runs[0][0], runs[1][0], **CLOSE)
    for a, b in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)


@torch.no_grad()
def test_a_decode_step_waits_for_the_gpu_no_more_than_the_stock_model():
    net, inputs = on_gpu("llava"), batch("llava", mixed("llava"))
    new = torch.tensor([[7]] * 4, device="cuda")
    with pruner("stairs", "original").attach(net):
        cached = net(**inputs).past_key_values
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1)
        step = {"input_ids": new, "attention_mask": mask, "past_key_values": cached}
        net(**step)
        step["attention_mask"] = torch.cat([mask, torch.ones_like(new)], 1)
        pruned = waits(net, step)
    cached = net(**inputs).past_key_values
    assert pruned <= waits(net, step | {"past_key_values": cached, "attention_mask": mask})


@pytest.mark.parametrize(("arm", "most"), [("stairs", 2), ("adaptive", 3)])
@torch.no_grad()
def test_a_pruned_prefill_waits_for_the_gpu_at_most_two_or_three_times_more_than_the_stock_model(arm, most):
    net, inputs = on_gpu("llava"), batch("llava", mixed("llava"))
    stock = waits(net, inputs)
    with pruner(arm, "original").attach(net):
        assert waits(net, inputs) - stock <= most


def waits(net, inputs):
    """Host synchronisations of one forward."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net(**inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def test_the_embedded_model_answers_as_on_a_cpu():
    task, answered = ShapesTask("report", per_kind=10), []
    for device in ("cpu", "cuda"):
        vlm = load_model("embedded:shapes-s0", device=device)
        records = evaluate(vlm, prepare(vlm, task), Pruner(FixedPolicy(layer=2, keep=0.1)))
        answered.append(np.concatenate(list(records.scores.values())))
    assert 0.1 < answered[0].mean() < 0.99
    assert np.mean(answered[0] != answered[1]) <= 0.02  # a rounding may tip one answer of 80
