"""Static caches: each layer its own length, the answers of a growing cache, and a decode step that compiles whole."""

import json
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from arms import ARMS, CLOSE, generate, mixed, model, pruner
from families import FAMILIES
from tiny_models import LLAVA, batch, sample
from transformers import CompileConfig, DynamicCache, StaticCache

from autoprune_lab.pruner import Pruner
from benchmarks import decode
from benchmarks.waits import Device
from policies.layerwise import LayerwisePolicy

STEPS = 5
EVEN, PADDED = (batch([sample(1), sample(2)]), batch([sample(1), sample(2, n_images=2), sample(3, n_images=0)]))


def static(net, n_keys):
    return StaticCache(config=net.config.get_text_config(), max_cache_len=n_keys)


def growing(net):
    return DynamicCache(config=net.config.get_text_config())


@torch.no_grad()
def steps(net, inputs, cache, sizes=(1, 1, 1)):
    """Logits of the next token behind a prompt, and behind so many new tokens more."""
    logits, mask = [net(**inputs, past_key_values=cache).logits[:, -1]], inputs["attention_mask"]
    for n in sizes:
        new = torch.arange(7, 7 + n).expand(len(mask), n)
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
        logits.append(net(input_ids=new, attention_mask=mask, past_key_values=cache).logits[:, -1])
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize(
    ("name", "arm", "positions"),
    [
        *(("llava", arm, positions) for arm in ARMS for positions in ("original", "compact")),
        ("paligemma", "adaptive", "compact"), ("qwen2_5_vl", "stairs", "original"), ("qwen3_vl", "opened", "original"),
        ("llava_next", "entrance", "compact"),
    ],
)  # fmt: skip
def test_a_static_cache_gives_what_a_growing_one_gives_and_each_layer_has_its_own_length(name, arm, positions):
    net, inputs = model(name), FAMILIES[name].batch(mixed(name))
    cache = static(net, inputs["input_ids"].shape[1] + STEPS - 1)
    with pruner(arm, positions).attach(net) as trace:
        expected, out = generate(net, inputs, STEPS), generate(net, inputs, STEPS, past_key_values=cache)
    assert torch.equal(out.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(out.logits), torch.stack(expected.logits), **CLOSE)
    before, after = trace.samples[:4], trace.samples[4:]
    for record, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(record.counts, other.counts)
        assert record.kv_cache_bytes == other.kv_cache_bytes
    longest = np.max([record.counts + record.geometry.n_text for record in after], axis=0)
    np.testing.assert_array_equal([layer.keys.shape[2] for layer in cache.layers], longest + STEPS - 1)


@pytest.mark.parametrize("positions", ["original", "compact"])
def test_eager_attention_and_several_tokens_at_once(positions):
    net = LLAVA.build("eager")
    with pruner("entrance", positions).attach(net):
        expected, logits = (steps(net, PADDED, cache, (1, 4, 1)) for cache in (growing(net), static(net, 70)))
    torch.testing.assert_close(logits, expected, **CLOSE)


def test_buffers_made_beforehand_are_filled_again_and_again():
    net, arm = model("llava"), pruner("stairs", "compact")
    cache = static(net, 70)
    cache.early_initialization(batch_size=2, num_heads=2, head_dim=12, dtype=torch.float32, device=torch.device("cpu"))
    places = [layer.keys.data_ptr() for layer in cache.layers]
    for inputs in (EVEN, batch([sample(4, after=9), sample(5)])):
        with arm.attach(net):
            torch.testing.assert_close(steps(net, inputs, cache), steps(net, inputs, growing(net)), **CLOSE)
        cache.reset()
        assert [layer.keys.data_ptr() for layer in cache.layers] == places
    torch.testing.assert_close(steps(net, EVEN, cache), steps(net, EVEN, growing(net)), **CLOSE)  # without a pruner


def _windows(net, inputs):
    gemma = model("gemma3")
    with pruner("stairs", "original").attach(gemma):
        generate(gemma, FAMILIES["gemma3"].batch(mixed("gemma3")), 2, cache_implementation="static")


def _short(net, inputs):
    net(**inputs, past_key_values=static(net, 20))


def _filled_by_a_shorter_one(net, inputs):
    cache = static(net, 60)
    net(**inputs, past_key_values=cache)
    cache.reset()
    net(**batch([sample(3, n_images=0), sample(4, n_images=0)]), past_key_values=cache)


def _prompt_again(net, inputs):
    cache = static(net, 60)
    for _ in range(2):
        net(**inputs, past_key_values=cache)


def _fewer_samples(net, inputs):
    cache = static(net, 60)
    net(**inputs, past_key_values=cache)
    net(input_ids=torch.tensor([[7]]), past_key_values=cache)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_windows, "a static cache of StaticSlidingWindowLayer is not supported"),
        (_short, "holds 20 tokens, the prompt has 28 before it is pruned: make it with max_cache_len >= 28"),
        (_filled_by_a_shorter_one, r"layer 2 holds 52 tokens, now 60 are needed: make a new cache"),
        (_prompt_again, "a new prompt needs a new cache"), (_fewer_samples, "1 samples, the pruned static cache 2"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
@torch.no_grad()
def test_what_a_static_cache_cannot_hold_is_refused(call, message):
    net = model("llava")
    with pruner("stairs", "original").attach(net), pytest.raises(ValueError, match=message):
        call(net, EVEN)


@torch.inference_mode()
def one_token(net, inputs, arm=None):
    """What the second decoded token did."""
    mask, cache = inputs["attention_mask"], static(net, 70)
    new = torch.full_like(mask[:, :1], 7)
    with arm.attach(net) if arm else nullcontext():
        net(**inputs, past_key_values=cache)
        for _ in range(2):
            mask = torch.cat([mask, torch.ones_like(new)], dim=1)
            with Device() as device:
                net(input_ids=new, attention_mask=mask, past_key_values=cache)
    return device


@pytest.mark.parametrize("inputs", [EVEN, PADDED])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_a_step_waits_for_nothing_and_its_calls_do_not_grow_with_the_cuts(inputs, positions):
    net, stock = LLAVA.build(num_hidden_layers=14), None
    stock = one_token(net, inputs)
    arms = [
        Pruner(
            LayerwisePolicy([(2 + i) / 14 for i in range(n)], [1 - (1 + i) / 16 for i in range(n)]), positions=positions
        )
        for n in (2, 11)
    ]
    done = [one_token(net, inputs, arm) for arm in arms]
    assert [len(device.waits) for device in done] == 2 * [len(stock.waits)]
    few, many = (device.calls.total() - stock.calls.total() for device in done)
    assert few == many == {"original": 4, "compact": 11}[positions] + (inputs is PADDED)


class Graphs:
    """A backend of torch.compile that runs graphs as they are: how many there were, and as `generate` takes it."""

    def __init__(self):
        self.n = 0
        self.config = CompileConfig(backend=self, fullgraph=True, mode=None)
        self.config._compile_all_devices = True

    def __call__(self, graph, example):
        self.n += 1
        return graph.forward

    def __deepcopy__(self, memo):
        return self  # a config copies what it holds


@pytest.mark.usefixtures("untyped")
def test_a_compiled_step_is_one_graph_for_all_prompts_and_blocks():
    net, graphs = LLAVA.build(num_hidden_layers=3), Graphs()
    options = {"cache_implementation": "static", "compile_config": graphs.config}
    plain = generate(net, PADDED, STEPS)
    arms = [Pruner(LayerwisePolicy([0.4], [keep]), positions="compact", probe_layer=0) for keep in (0.5, 0.3)]
    made = []
    for arm in (arms[0], arms[0], arms[1]):
        with arm.attach(net):
            for inputs in (PADDED, PADDED):
                expected, compiled = generate(net, inputs, STEPS), generate(net, inputs, STEPS, **options)
                assert torch.equal(expected.sequences, compiled.sequences)
                torch.testing.assert_close(torch.stack(compiled.logits), torch.stack(expected.logits), **CLOSE)
                made.append(graphs.n)
    assert made[:4] == [1] * 4
    assert made[4:] in ([1, 1], [2, 2])  # other lengths may be another graph
    after = generate(net, PADDED, STEPS, **options)
    torch.testing.assert_close(torch.stack(after.logits), torch.stack(plain.logits), **CLOSE)


@pytest.mark.usefixtures("untyped")
@torch.no_grad()
def test_a_compiled_prefill_runs_as_written_or_is_refused():
    net, arm = LLAVA.build(num_hidden_layers=3), Pruner(LayerwisePolicy([0.4], [0.5]), probe_layer=0)
    with arm.attach(net):
        expected = steps(net, PADDED, static(net, 70))
        graphs = Graphs()
        torch.testing.assert_close(
            steps(torch.compile(net, backend=graphs), PADDED, static(net, 70)), expected, **CLOSE
        )
        assert graphs.n > 0  # of the steps
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported, match="a pruner is attached"):
            torch.compile(net, backend=graphs, fullgraph=True)(**PADDED, past_key_values=static(net, 70))


@pytest.mark.usefixtures("untyped")
def test_the_benchmark_times_decode_steps_on_both_caches(monkeypatch, tmp_path, capsys):
    out = tmp_path / "decode.json"
    monkeypatch.setattr(sys, "argv", f"decode --dims tiny --vision 36 --batch 2 --steps 2 --out {out}".split())
    decode.main()
    (rows,) = json.loads(out.read_text())["tables"].values()
    assert [row["arm"] for row in rows] == ["unpruned", "fixed", "logistic"]
    assert rows[0]["growing_ratio"] == rows[0]["graphs_ratio"] == 1
    for row in rows[1:]:
        assert row["growing_memory_gib"] < rows[0]["growing_memory_gib"]
        assert row["graphs_memory_gib"] < rows[0]["graphs_memory_gib"]
        assert min(row["growing_ms"], row["graphs_ms"]) > 0
    assert "growing_ms" in capsys.readouterr().out
