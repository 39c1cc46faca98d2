"""FLOPs against torch's own counter (exactly), and the papers' conventions against the figures they print."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel

from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.schedule import flops
from autoprune_lab.schedule.geometry import Geometry, Layer

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=0)

SIZES = [
    {"num_attention_heads": 4, "num_key_value_heads": 4},
    {"num_attention_heads": 4, "num_key_value_heads": 2},
    {"num_attention_heads": 6, "num_key_value_heads": 1, "head_dim": 24},
]


def count(run):
    """FLOPs that torch counts in `run`."""
    with flop_counter() as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


@pytest.fixture(params=SIZES, ids=["mha", "gqa", "mqa"])
def llama(request):
    config = LlamaConfig(
        vocab_size=8, hidden_size=48, intermediate_size=80, num_hidden_layers=3, max_position_embeddings=64,
        **request.param,
    )  # fmt: skip
    return LlamaModel(config).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_unpruned_prefill_equals_torch(llama, attention):
    llama.set_attn_implementation(attention)
    geometry = Geometry.from_config(llama.config, n_vision=30, n_text=7)
    assert flops.unpruned_flops(geometry) == count(lambda: llama(inputs_embeds=torch.randn(1, 37, 48)))


def test_pruned_prefill_equals_torch_layer_by_layer(llama):
    tokens = np.array([30, 11, 0])
    geometry = Geometry.from_config(llama.config, n_vision=30, n_text=7)

    def run():
        for layer, n in zip(llama.layers, tokens + 7, strict=True):
            hidden = torch.randn(1, n, 48)
            layer(hidden, position_embeddings=llama.rotary_emb(hidden, torch.arange(n)[None]))

    assert flops.prefill_flops(geometry, tokens) == count(run)


def test_a_decoded_token_equals_torch(llama):
    cache = DynamicCache()
    llama(inputs_embeds=torch.randn(1, 20, 48), past_key_values=cache)
    geometry = Geometry.from_config(llama.config, n_vision=13, n_text=7)
    counted = count(lambda: llama(inputs_embeds=torch.randn(1, 1, 48), past_key_values=cache))
    assert flops.decode_flops(geometry, np.full(3, 21)) == counted


def test_scoring_equals_torch(llama):
    geometry = Geometry.from_config(llama.config, n_vision=13, n_text=7)
    heads, head_dim = geometry.n_heads, geometry.head_dim
    query, key = torch.randn(heads, 7, head_dim), torch.randn(heads, head_dim, 20)
    assert flops.scoring_flops(geometry, rows=7, keys=20) == count(lambda: query @ key)


def test_cache_bytes_equal_the_cache(llama):
    cache = DynamicCache()
    llama(inputs_embeds=torch.randn(1, 20, 48), past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    geometry = Geometry.from_config(llama.config, n_vision=13, n_text=7)
    assert flops.kv_cache_bytes(geometry, np.full(3, 13), bytes_per_value=4) == held


@pytest.mark.parametrize(
    ("n", "two", "three", "real"), [(576, 2.99, 3.82, 7.63), (622, 3.23, 4.13, 8.26), (640, 3.33, 4.25, 8.50)]
)
def test_conventions_give_the_published_figures(n, two, three, real):
    geometry, tokens = LLAVA.with_tokens(n, 0), np.full(32, n)
    assert round(flops.macs_2ndm(geometry, tokens) / 1e12, 2) == two
    assert round(flops.macs_3ndm(geometry, tokens) / 1e12, 2) == three
    assert flops.prefill_flops(geometry, tokens) == 2 * flops.macs_3ndm(geometry, tokens)
    assert flops.unpruned_flops(geometry) / 1e12 == pytest.approx(real, abs=0.006)


def test_text_counts_in_every_layer_and_in_every_convention():
    visual, text = LLAVA.with_tokens(100, 28), LLAVA.with_tokens(128, 0)
    for cost in (flops.prefill_flops, flops.macs_2ndm, flops.macs_3ndm):
        assert cost(visual, np.full(32, 100)) == cost(text, np.full(32, 128))


@pytest.mark.parametrize(
    ("n_vision", "stages", "printed"),
    [
        (576, {576: 32}, 3.82),
        (576, {576: 2, 288: 30}, 2.01),  # FastV, half of the tokens dropped
        (576, {576: 8, 288: 8, 144: 8, 72: 8}, 1.78),
        (576, {576: 8, 230: 8, 92: 8, 36: 8}, 1.54),
        (2880, {2880: 32}, 20.8),
        (2880, {2880: 8, 1440: 8, 720: 8, 360: 8}, 9.46),
    ],
)
def test_visual_only_gives_the_figures_of_pyramid_drop_whatever_the_text(n_vision, stages, printed):
    tokens = np.repeat(list(stages), list(stages.values()))
    macs = flops.macs_3ndm(flops.visual_only(LLAVA.with_tokens(n_vision, 64)), tokens)
    assert float(f"{macs / 1e12:.3g}") == printed


def test_ratio_is_pruned_over_unpruned():
    geometry = LLAVA.with_tokens(576, 64)
    tokens = np.array([576] * 2 + [64] * 30)
    assert flops.flops_ratio(geometry, tokens) == flops.prefill_flops(geometry, tokens) / flops.unpruned_flops(geometry)
    assert flops.flops_ratio(geometry, np.full(32, 576)) == 1.0


def test_mean_tokens_entering_and_leaving_differ_by_what_the_first_layer_sees():
    tokens = np.array([576, 72, 72, 36])
    assert flops.mean_tokens_entering(tokens) == 189.0
    assert flops.mean_tokens_leaving(tokens) == 189.0 - (576 - 36) / 4


def test_long_prompts_do_not_overflow_small_integers():
    tokens = np.full(32, 100_000, dtype=np.int32)
    assert flops.prefill_flops(LLAVA, tokens) == flops.prefill_flops(LLAVA, tokens.astype(np.int64)) > 2**31


def test_a_plan_for_another_decoder_is_refused():
    with pytest.raises(ValueError, match="one count per layer"):
        flops.prefill_flops(LLAVA, np.full(31, 10))


def test_geometry_is_read_from_a_config_and_names_what_is_missing():
    config = LlamaConfig(hidden_size=48, num_attention_heads=6, num_key_value_heads=2, intermediate_size=80)
    geometry = Geometry.from_config(config, 5, 2)
    assert (geometry.n_heads, geometry.n_kv_heads, geometry.head_dim, geometry.n_layers) == (6, 2, 8, 32)
    with pytest.raises(ValueError, match="object has no hidden_size"):
        Geometry.from_config(object(), 5, 2)
    with pytest.raises(ValueError, match="n_text=-1"):
        geometry.with_tokens(5, -1)


def test_a_total_is_the_sum_of_the_prompts():
    convolved = Layer(per_token=7, per_pair=0, per_logit=0, kv_values=0, chunk=4, per_chunk=11, per_chunk_pair=3)
    mixed = Geometry(2, 8, 16, 2, 2, 4, 30, 5, layers=(convolved, LLAVA.plain), outside=13)
    for one in (LLAVA, mixed):
        prompts = [one.with_tokens(n_vision, n_text) for n_vision, n_text in ((30, 7), (9, 0), (30, 12))]
        tokens = np.linspace([30, 9, 30], [2, 0, 11], one.n_layers, dtype=int).T
        each = [flops.prefill_flops(prompt, row) for prompt, row in zip(prompts, tokens, strict=True)]
        assert flops.total_flops(prompts, tokens) == sum(each)
    assert flops.total_flops([], np.zeros((0, 2), dtype=int)) == 0
