"""LLaVA around decoders whose layers are given more than masks and rotary embeddings, or other ones."""

from typing import Any

import torch
from families import FAMILIES, GRID, KINDS, LAST_FULL, MROPE, N_LAYERS, VOCAB, WHOLE, WINDOW, Family, Sample
from torch import Generator, Tensor

SCALED = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16,
    "max_position_embeddings": 64, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}  # fmt: skip
LATENT = {"qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 12, "q_lora_rank": 24, "kv_lora_rank": 24}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}


def _around(model_type: str, kind: type[Family] = Family, **text: Any) -> Family:
    return kind(
        "llava", FAMILIES["llava"].draw, {"model_type": model_type} | text, WHOLE | {"model_type": "clip_vision_model"}
    )


def _flat_grids(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """As Qwen's, patches of one frame."""
    counts, images = FAMILIES["qwen2_vl"].draw(n, generator)
    return counts, images | {"pixel_values": images["pixel_values"].chunk(2, dim=1)[0]}


class _Typed(Family):
    """Experts of pictures and experts of text: every token's kind is told to the layers."""

    def batch(self, samples: list[Sample], side: str = "left", extra: int = 0) -> dict[str, Tensor]:
        inputs = super().batch(samples, side, extra)
        return inputs | {"moe_mm_token_type_ids": inputs["mm_token_type_ids"].int()}


class _Layered(Family):
    """Every layer has an input of its own for each token, given by position and not by name."""

    def batch(self, samples: list[Sample], side: str = "left", extra: int = 0) -> dict[str, Tensor]:
        inputs = super().batch(samples, side, extra)
        table = torch.randn(VOCAB, N_LAYERS, 8, generator=torch.Generator().manual_seed(0))
        return inputs | {"per_layer_inputs": table[inputs["input_ids"]]}


LAYERED = _around(
    "gemma4_text", kind=_Layered, sliding_window=WINDOW, layer_types=LAST_FULL, global_head_dim=12,
    hidden_size_per_layer_input=8, vocab_size_per_layer_input=VOCAB, num_kv_shared_layers=0,
)  # fmt: skip

STREAMS = {  # Gemma 3n's: four versions of every hidden state, an input of each layer
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB, "laurel_rank": 4,
    "intermediate_size": [80] * N_LAYERS, "activation_sparsity_pattern": [0.0] * N_LAYERS,
}  # fmt: skip

DECODERS = {
    "ministral3": _around("ministral3", rope_parameters=SCALED),  # queries scaled by position
    "mistral4": _around(
        "mistral4", rope_parameters=SCALED | {"partial_rotary_factor": 1 / 3}, num_key_value_heads=4,
        **LATENT | EXPERTS,
    ),
    "muse": _around(  # some layers without a rotary embedding
        "muse_glimmer_text", sliding_window=WINDOW, layer_types=KINDS, layer_rope_theta=[1e4, 0, 1e4, 1e4, 0, 1e4]
    ),
    "gemma2": _around(  # logits bent to a bound
        "gemma2", sliding_window=WINDOW, layer_types=KINDS, query_pre_attn_scalar=20, attn_logit_softcapping=2.0
    ),
    "llama4": _around(  # chunks, queries scaled by place, experts
        "llama4_text", intermediate_size_mlp=80, attention_chunk_size=WINDOW, floor_scale=8, attn_scale=0.5,
        num_local_experts=4, moe_layers=[1, 3, 5], no_rope_layer_interval=3,
    ),
    "gemma4": _around(
        "gemma4_text", sliding_window=WINDOW, layer_types=LAST_FULL, global_head_dim=12,
        hidden_size_per_layer_input=0, num_kv_shared_layers=0,
    ),
    "gemma3n": _around(  # keys of layers 1 and 2, cuts before, at and behind them
        "gemma3n_text", sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"] * 3,
        num_kv_shared_layers=3, **STREAMS,
    ),
    "ernie": _Typed(
        "ernie4_5_vl_moe", _flat_grids,
        MROPE | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": [16, 16]},
        GRID | {"hidden_size": 32}, visual_type=("mm_token_type_ids", 1),
    ),
}  # fmt: skip
