"""What layers cost, against torch's own count of real ones: one tiny decoder a cause, prefill and decoded token."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from families import FAMILIES, IMAGE, KINDS, LAST_FULL, N_LAYERS, TEXT, WHOLE

from autoprune_lab.decoder import costs
from autoprune_lab.decoder.anatomy import Anatomy, geometry_by, geometry_of
from autoprune_lab.decoder.costs import CostError, described
from autoprune_lab.decoder.meter import cache_bytes, flop_counter
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule import flops
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.geometry import Geometry
from policies.layerwise import LayerwisePolicy

LATENT = {
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12,
    "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
    "n_group": 1, "topk_group": 1, "head_dim": 8, "n_shared_experts": 1,
}  # fmt: skip
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
WINDOW = {"sliding_window": 24, "layer_types": KINDS}
UNLIKE = WINDOW | {"layer_types": LAST_FULL, "head_dim": 12, "global_head_dim": 24, "num_global_key_value_heads": 1}
MIXED = ["dense", "sparse"] * (N_LAYERS // 2)

TEXTS = {
    "dense": ("llama", {}),
    "experts": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "experts in every second layer": ("qwen3_moe", EXPERTS | {"decoder_sparse_step": 2}),
    "experts and shared ones": ("qwen2_moe", EXPERTS | {"shared_expert_intermediate_size": 24}),
    "latent keys, a dense layer first": ("deepseek_v3", LATENT | {"first_k_dense_replace": 1}),
    "windows": ("gemma3_text", WINDOW | {"query_pre_attn_scalar": 20}),
    "heads of unlike sizes": ("gemma4_text", UNLIKE | {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
    "heads of unlike sizes, experts": (
        "gemma4_text",
        UNLIKE | {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "enable_moe_block": True}
        | {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 40},
    ),
    "keys of another layer, inputs of each": (
        "gemma4_text",
        UNLIKE | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "num_kv_shared_layers": 2},
    ),
    "two streams": (
        "gemma3n_text",
        WINDOW | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "num_kv_shared_layers": 2}
        | {"laurel_rank": 8, "altup_num_inputs": 2, "intermediate_size": [80] * N_LAYERS}
        | {"activation_sparsity_pattern": [0.0] * N_LAYERS},
    ),
    "an MLP without a gate": ("starcoder2", {}),
}  # fmt: skip


@cache
def decoder(name):
    """Random weights, attention spelled out, experts one by one: so does torch's counter see all of it."""
    model_type, text = TEXTS[name]
    torch.manual_seed(0)
    config = hf.AutoConfig.for_model(model_type, **TEXT | text)
    model = hf.AutoModel.from_config(config, attn_implementation="eager", experts_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    return model


def count(call):
    """FLOPs that torch counts in `call`."""
    with flop_counter() as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def bytes_in(held):
    """Of keys and values; layers that share another's hold none."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in held.layers if layer.keys is not None)


@pytest.mark.parametrize("n_tokens", [7, 50])
@pytest.mark.parametrize("name", TEXTS)
def test_a_prefill_costs_what_torch_counts(name, n_tokens):
    geometry = described(decoder(name)).with_tokens(0, n_tokens)
    counted = count(lambda: decoder(name)(torch.randint(3, IMAGE, (1, n_tokens))))
    assert flops.unpruned_flops(geometry) == counted


@pytest.mark.parametrize("name", TEXTS)
def test_a_decoded_token_costs_what_torch_counts_and_the_cache_holds_what_is_told(name):
    net, n_text = decoder(name), 20
    held = hf.DynamicCache(config=net.config)
    net(torch.randint(3, IMAGE, (1, n_text)), past_key_values=held)
    geometry = described(net).with_tokens(0, n_text)
    assert flops.kv_cache_bytes(geometry, np.zeros(N_LAYERS, dtype=int), bytes_per_value=4) == bytes_in(held)
    counted = count(lambda: net(torch.tensor([[7]]), past_key_values=held))
    assert flops.decode_flops(geometry, np.full(N_LAYERS, n_text + 1)) == counted


def test_a_sliding_layer_s_cache_holds_its_window():
    net, n_text = decoder("windows"), 50
    held = net(torch.randint(3, IMAGE, (1, n_text))).past_key_values
    geometry = described(net).with_tokens(0, n_text)
    assert flops.kv_cache_bytes(geometry, np.zeros(N_LAYERS, dtype=int), bytes_per_value=4) == bytes_in(held)


def test_a_plain_decoder_has_the_geometry_that_its_config_says():
    assert described(decoder("dense")) == Geometry.from_config(decoder("dense").config, 0, 0)


PRUNED = (
    "dense", "experts in every second layer", "latent keys, a dense layer first", "windows",
    "heads of unlike sizes", "heads of unlike sizes, experts", "two streams",
)  # fmt: skip


def vlm(model_type, text, vision, **top):
    """A tiny random model; `top`: of the whole config."""
    torch.manual_seed(0)
    config = hf.AutoConfig.for_model(
        model_type, text_config=TEXT | text, vision_config=vision, image_token_id=IMAGE, **top
    )
    model = hf.AutoModelForImageTextToText.from_config(
        config, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    return model


def llava(name):
    model_type, text = TEXTS[name]
    return vlm("llava", {"model_type": model_type} | text, WHOLE | {"model_type": "clip_vision_model"})


@pytest.mark.parametrize("name", PRUNED)
def test_a_budget_holds_in_torch_s_count_and_so_does_a_decoded_token(name):
    model, prompt = llava(name), FAMILIES["llava"].sample(1, n_images=2)
    inputs = FAMILIES["llava"].batch([prompt])
    assert geometry_by(model.config) == geometry_of(model)
    anatomy = Anatomy.of(model)
    where = f"{type(model).__name__}.{next(n for n, m in model.named_modules() if m is anatomy.decoder)}"
    with torch.no_grad(), flop_counter() as whole:
        model(**inputs)
    pruner = Pruner(LayerwisePolicy((0.2,), (0.5,)), Budget(flops_ratio=0.55), probe_layer=0)
    with torch.no_grad(), pruner.attach(model) as trace:
        with flop_counter() as pruned:
            held = model(**inputs).past_key_values
        n_bytes = bytes_in(held)
        with flop_counter() as step:
            model(input_ids=torch.tensor([[7]]), past_key_values=held)
    (record,) = trace.samples
    spent, unpruned, decoded = (sum(c.get_flop_counts()[where].values()) for c in (pruned, whole, step))
    assert spent == record.decoder_flops + record.scoring_flops
    assert unpruned == flops.unpruned_flops(record.geometry)
    assert 0.5 < (spent - record.scoring_flops) / unpruned == record.flops_ratio <= 0.55
    assert flops.kv_cache_bytes(record.geometry, record.counts, 4) == record.kv_cache_bytes == n_bytes
    sources = [anatomy.source(i) for i in range(N_LAYERS)]  # a step attends to all keys that are there
    held_by = [(record.counts[i] + record.geometry.n_text, record.geometry.each[i].window) for i in sources]
    seen = [min(n, window or n) + 1 for n, window in held_by]
    assert decoded == flops.decode_flops(record.geometry, np.array(seen))


def test_text_may_have_experts_of_its_own():
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}}
    text = rope | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": [40, 24], "mlp_layer_types": MIXED}
    config = hf.AutoConfig.for_model("ernie4_5_vl_moe", text_config=TEXT | text)
    with torch.device("meta"):
        net = type(hf.AutoModelForImageTextToText.from_config(config).get_decoder())
    torch.manual_seed(0)
    net = net(copy.deepcopy(config.text_config)).eval()
    net.config._attn_implementation = net.config._experts_implementation = "eager"
    types = torch.tensor([[0] * 5 + [1] * 30 + [0] * 3])
    geometry = described(net).with_tokens(30, 8)
    counted = count(lambda: net(torch.randint(3, IMAGE, (1, 38)), moe_mm_token_type_ids=types))
    assert flops.unpruned_flops(geometry) == counted
    types[0, [4, 35]] = 1  # the start and the end of the picture
    counted = count(lambda: net(torch.randint(3, IMAGE, (1, 38)), moe_mm_token_type_ids=types))
    assert flops.unpruned_flops(described(net).with_tokens(30, 8, n_marked=2)) == counted
    assert [layer.text_extra for layer in geometry.each] == [0, 2 * 2 * 3 * 48 * (40 - 24)] * 3
    for n_vision in (0, 12):
        tokens = np.full(N_LAYERS, n_vision)
        assert flops.prefill_flops(geometry, tokens) == flops.unpruned_flops(geometry.with_tokens(n_vision, 8))


UNATTENDED = {
    "convolution": ("lfm2", {"layer_types": ["conv", "full_attention", "conv"] * 2}, 48, 0),
    "linear attention": (
        "qwen3_5_text",
        {"layer_types": ["linear_attention", "full_attention", "linear_attention"] * 2, "linear_key_head_dim": 8}
        | {"linear_value_head_dim": 6, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
        56, 4 * 8 * 6,
    ),
    "state space": (
        "nemotron_h",
        {"layers_block_type": ["linear_attention", "full_attention", "mlp"] * 2, "ssm_state_size": 8}
        | {"mamba_num_heads": 4, "mamba_head_dim": 12, "n_groups": 2, "chunk_size": 48},
        48 + 2 * 2 * 8, 4 * 12 * 8,
    ),
}  # fmt: skip


@cache
def mixed(name):
    model_type, text, *_ = UNATTENDED[name]
    torch.manual_seed(0)
    config = hf.AutoConfig.for_model(model_type, **TEXT | text)
    return hf.AutoModel.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("n_tokens", [20, 48, 64, 65, 300])
@pytest.mark.parametrize("name", UNATTENDED)
def test_layers_without_attention_cost_what_torch_counts(name, n_tokens):
    net, held = mixed(name), hf.DynamicCache(config=mixed(name).config)
    geometry = described(net).with_tokens(0, n_tokens)
    ids = torch.randint(3, IMAGE, (1, n_tokens))
    assert flops.unpruned_flops(geometry) == count(lambda: net(ids, past_key_values=held))
    assert flops.kv_cache_bytes(geometry, np.zeros(N_LAYERS, dtype=int), 4) == cache_bytes(
        held, np.full((1, N_LAYERS), n_tokens)
    )
    counted = count(lambda: net(torch.tensor([[7]]), past_key_values=held))
    assert flops.decode_flops(geometry, np.full(N_LAYERS, n_tokens + 1)) == counted


@pytest.mark.parametrize("name", UNATTENDED)
def test_what_a_layer_without_attention_remembers_does_not_grow(name):
    *_, channels, recurrent = UNATTENDED[name]
    layer = described(mixed(name)).each[0]
    kernel = {"convolution": mixed(name).config.__dict__.get("conv_L_cache")}.get(name) or 4
    assert (layer.state, layer.state_float32, layer.kv_values) == (channels * kernel, recurrent, 0)
    assert layer.chunk == {"convolution": None, "linear attention": 64, "state space": 48}[name]


@pytest.mark.parametrize("max_cuts", [None, 2])
@pytest.mark.parametrize("name", UNATTENDED)
def test_a_budget_holds_where_chunks_cost_what_whole_ones_do(name, max_cuts):
    geometry = described(mixed(name)).with_tokens(576, 60)
    for bound in (0.55, 0.7, 0.8):
        kept = Budget(flops_ratio=bound).fit(np.array([1.0, 1, 0.8, 0.6, 0.4, 0.2]), geometry, 2, max_cuts)
        assert bound - 0.06 < flops.flops_ratio(geometry, kept) <= bound


def test_what_grows_otherwise_is_refused(monkeypatch):
    config = hf.AutoConfig.for_model("lfm2", **TEXT | {"layer_types": ["conv", "full_attention"] * 3})
    monkeypatch.setattr(costs, "_KNOWN", {})
    monkeypatch.setattr(costs, "attention_of", lambda layer: layer)  # convolutions taken for attention
    with pytest.raises(CostError, match="Lfm2Model cannot be described: the FLOPs of layer 0 do not grow as tokens"):
        described(hf.AutoModel.from_config(config))


def test_layers_that_the_config_does_not_describe_are_refused():
    net = hf.AutoModel.from_config(hf.AutoConfig.for_model("llama", **TEXT))
    del net.layers[4:]
    with pytest.raises(CostError, match=r"LlamaModel has 4 layers, its config describes 6: set config.num_hidden_"):
        described(net)


def test_describing_leaves_random_numbers_and_other_counters_alone_and_asks_a_config_once(monkeypatch):
    monkeypatch.setattr(costs, "_KNOWN", {})
    decoder("dense")
    state = torch.get_rng_state()
    with flop_counter() as outer:
        first = described(decoder("dense"))
    assert outer.get_total_flops() == 0
    assert torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr(costs, "_twin", None)
    assert described(decoder("dense")) is first


def test_a_config_that_makes_no_model_tells_no_costs():
    config = copy.deepcopy(llava("dense").config)
    config.text_config.num_attention_heads = 0
    with pytest.raises(CostError, match="LlavaConfig makes no model whose costs can be told: "):
        geometry_by(config)


def test_costs_are_the_same_in_inference_mode(monkeypatch):
    outside = described(decoder("experts"))
    monkeypatch.setattr(costs, "_KNOWN", {})
    with torch.inference_mode():
        assert described(decoder("experts")) == outside
