"""Tiny models of the newer checkpoints that conf/model names: each of the type, and with the decoder, of the real one.

They are not in `FAMILIES`, whose tests run every prompt by hand; these come from a folder, pictures and all.
"""

import torch
from families import GRID, MROPE, PATCHES, SHUFFLED, SIDE, VISION, WINDOWED, Family
from families import _grids as grids
from families import _plain as plain
from torch import Generator, Tensor

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
DEEP = GRID | {"hidden_size": 32, "out_hidden_size": 48, "num_position_embeddings": 64}
GLM = GRID | {"hidden_size": 32, "out_hidden_size": 48, "image_size": 4 * SIDE}
POOLED = VISION | {"num_key_value_heads": 4, "head_dim": 8, "patch_size": 4, "position_embedding_size": 256}
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 32,
    "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip
LARGE = WINDOWED | {  # Gemma 4's large models: full layers have heads of their own, whose keys are their values
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "use_bidirectional_attention": "vision",
    "global_head_dim": 24, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
}  # fmt: skip
SOFT = {"video_token_id": 127, "audio_token_id": 126, "audio_config": None}  # ids that no word of the toys has
PIXTRAL = VISION | {"model_type": "pixtral", "image_size": 8 * SIDE, "patch_size": 4, "head_dim": 8}
LINEAR = {  # some layers have linear attention
    "layer_types": [f"{kind}_attention" for kind in ("linear", "full", "linear", "linear", "full", "linear")],
    "linear_key_head_dim": 32, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "rope_parameters": MROPE["rope_parameters"] | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]},
}  # fmt: skip


def _sized(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """Square images, 2 x 2 patches a token, and their sizes."""
    side = 8 * SIDE
    pixels = torch.randn(n, 3, side, side, generator=generator)
    return [PATCHES] * n, {"pixel_values": pixels, "image_sizes": torch.tensor([[side, side]] * n)}


def _sliced(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """Square images without slices, their patches side by side, 4 x 4 patches a token."""
    side = 4 * SIDE  # in patches
    pixels = torch.randn(1, 3, 4, n * 4 * side * side, generator=generator)
    return [PATCHES] * n, {"pixel_values": pixels, "target_sizes": torch.tensor([[side, side]] * n, dtype=torch.int32)}


def _tile(n: int, generator: Generator) -> tuple[list[int], dict[str, Tensor]]:
    """One tile an image, 2 x 2 patches a token."""
    return [PATCHES] * n, {"pixel_values": torch.randn(n, 3, 8 * SIDE, 8 * SIDE, generator=generator)}


POPULAR = {
    "qwen3_vl_moe": Family(
        "qwen3_vl_moe", grids, MROPE | EXPERTS | {"decoder_sparse_step": 1, "mlp_only_layers": []},
        DEEP | {"deepstack_visual_indexes": [0, 1, 2]},
    ),
    "gemma4": Family("gemma4", plain, LARGE, POOLED, SOFT),
    "gemma4_moe": Family(
        "gemma4", plain, LARGE | EXPERTS | {"enable_moe_block": True, "top_k_experts": 2}, POOLED, SOFT
    ),
    "internvl3_5": Family("internvl", plain, {"model_type": "qwen3"}, SHUFFLED),
    "internvl3_5_moe": Family("internvl", plain, EXPERTS | {"model_type": "qwen3_moe"}, SHUFFLED),
    "glm4_6v": Family("glm4v", grids, MROPE, GLM),
    "glm4_6v_moe": Family(
        "glm4v_moe", grids,
        {
            "rope_parameters": MROPE["rope_parameters"] | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]},
            "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "first_k_dense_replace": 1,
            "n_group": 1, "topk_group": 1,
        },
        GLM,
    ),
    "mistral_small": Family(
        "mistral3", _sized, {"model_type": "mistral", "sliding_window": None}, PIXTRAL, {"spatial_merge_size": 2}
    ),
    "ministral3": Family(
        "mistral3", _sized, {"model_type": "ministral3", "rope_parameters": YARN}, PIXTRAL, {"spatial_merge_size": 2}
    ),
    "qwen3_5": Family("qwen3_5", grids, LINEAR, DEEP),
    "qwen3_5_moe": Family("qwen3_5_moe", grids, LINEAR | EXPERTS | {"shared_expert_intermediate_size": 40}, DEEP),
    "minicpm_v_4_6": Family(
        "minicpmv4_6", _sliced, LINEAR | {"model_type": "qwen3_5_text"},
        VISION | {"image_size": 16 * SIDE, "patch_size": 4}, {"insert_layer_id": 1, "video_token_id": 127},
    ),
    "llama4": Family(
        "llama4", _tile,
        {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 80, "attention_chunk_size": 24},
        {
            "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
            "image_size": 8 * SIDE, "patch_size": 4, "vision_output_dim": 48, "projector_input_dim": 48,
            "projector_output_dim": 48,
        },
    ),
}  # fmt: skip
