"""A tiny random model of any model type in transformers' image-text-to-text mapping.

Nothing is listed but exceptions: the type's own config is walked, with its sub-configs, and whatever names a size of
the decoder is made small, so that a type which a new release brings is built by the same walk. The decoder is real; the
vision tower is built on torch's meta device and emptied, since pictures come as features made by hand.
"""

import importlib
import inspect
from typing import Any
from unittest.mock import patch

import torch
import transformers as hf
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

TYPES = tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
IMAGE, VIDEO, OTHER, AUDIO, VOCAB = 63, 62, 61, 60, 64
VARIANTS: dict[str, dict[str, Any]] = {
    "blip-2+t5": {"model_type": "t5"},
    "gemma4+shared": {"num_kv_shared_layers": 2},
    "instructblip+llama": {"model_type": "llama"},
    "instructblip+t5": {"model_type": "t5"},
    "llava+qwen3_moe": {"model_type": "qwen3_moe"},
    "mistral3+ministral3": {"model_type": "ministral3"},
    "mistral3+mistral4": {"model_type": "mistral4"},
    "paligemma+gemma2": {"model_type": "gemma2"},
}
"""A type with another decoder than its default one, as released models have it -> what its text config is given."""

N_LAYERS, HIDDEN, N_EXPERTS = 6, 48, 4
MANY = 300_000  # parameters of one tensor: towers have more, what stands around a small decoder less

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 80, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512,
    "sliding_window": 24, "query_pre_attn_scalar": 20, "max_window_layers": N_LAYERS,
    "num_experts": N_EXPERTS, "num_local_experts": N_EXPERTS, "n_routed_experts": N_EXPERTS,
    "moe_num_experts": N_EXPERTS, "num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2,
    "n_group": 1, "topk_group": 1, "moe_intermediate_size": 40, "shared_expert_intermediate_size": 40,
    "shared_experts_intermediate_size": 40, "shared_intermediate_size": 40, "dense_intermediate_size": 80,
    "intermediate_size_mlp": 80, "moe_hidden_size": HIDDEN, "share_expert_dim": 40, "first_k_dense_replace": 1,
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12,
    "qk_head_dim": 24, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 8,
    "linear_key_head_dim": 32, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_head_dim": 8, "linear_num_heads": 4, "attention_chunk_size": 24, "floor_scale": 16,
    "global_head_dim": 24, "num_global_key_value_heads": 1, "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8, "laurel_rank": 8, "num_kv_shared_layers": 2, "rotary_dim": 12,
    "ffn_dim": 80, "word_embed_proj_dim": HIDDEN, "embed_dim": HIDDEN, "layers": N_LAYERS, "attention_heads": 4,
    "d_model": HIDDEN, "d_ff": 80, "d_kv": 12, "num_layers": N_LAYERS, "num_decoder_layers": N_LAYERS, "num_heads": 4,
    "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 80,
    "decoder_layers": N_LAYERS, "decoder_attention_heads": 4, "decoder_ffn_dim": 80,
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 12, "sliding_window_size": 24,
    "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 12, "num_sliding_attention_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "ple_embed_dim": 8, "ngram_vocab_size_base": 64,
    "hc_lowrank": 8, "d_rel": 4, "rel_extent": 32,
}  # fmt: skip
"""What a decoder's config may call its sizes; a size that it leaves unset stays unset."""

_PLAIN = list(SIZES)[:6]  # vocabulary, widths, layers, heads
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_KINDS = [f"{kind}_attention" for kind in ("linear", "full", "linear", "linear", "full", "linear")]
_LINEAR = {"text_config.layer_types": _KINDS, "text_config.rms_norm_eps": 0.1}
"""The state's output is normed: where it is next to nothing, a small epsilon would show rounding alone."""
_INDEXER = {
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    "indexer_head_dim": 16,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
}
N_QUERIES, PIXELS = 8, 28  # of types whose tower runs: tokens of one picture, and its side
_TOWER = {
    f"{part}_config.{name}": value
    for part in ("vision", "qformer")
    for name, value in {
        "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    }.items()
} | {"vision_config.image_size": PIXELS, "qformer_config.vocab_size": VOCAB, "num_query_tokens": N_QUERIES}  # fmt: skip
"""A small tower, and what turns its patches into tokens, which are run: such a type's `generate` takes pixels only."""
_LATENTS = {name: value for name, value in _TOWER.items() if name.startswith("vision")} | {
    "latent_query_num": N_QUERIES
}
N_PATCHES = 16  # of one picture, for types that take patches
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "aya_vision": {"vision_config.num_attention_heads": 16},
    **{name: {"image_token_index": IMAGE} | _TOWER for name in ("blip-2", "instructblip", "instructblip+llama")},
    "chameleon": {"vocabulary_map": {"<image>": IMAGE}, "vq_config.base_channels": 32, "vq_config.num_embeddings": 64}
    | {name: SIZES[name] for name in _PLAIN},
    "cohere_compass": {"text_config.rope_parameters": {"full_attention": _ROPE | {"mrope_section": [2, 2, 2]}}},
    "deepseek_ocr2": {
        "text_config.num_experts_per_tok": 2,
        "text_config.mlp_layer_types": ["dense", *["sparse"] * (N_LAYERS - 1)],
    },
    "diffusion_gemma": {
        "text_config.num_experts": 4,
        "text_config.top_k_experts": 2,
        "text_config.moe_intermediate_size": 40,
    },
    "dots3_note": {
        "text_config.num_key_value_heads": 4,
        "text_config.head_dim": 24,
        "text_config.swa_head_dim": 24,
        "text_config.swa_qk_nope_head_dim": 16,
        "text_config.swa_v_head_dim": 12,
        "text_config.swa_q_lora_rank": 24,
        "text_config.swa_kv_lora_rank": 16,
        "text_config.swa_num_attention_heads": 4,
        "text_config.swa_num_key_value_heads": 4,
        "vision_config.adapter_out_dim": HIDDEN,
        "audio_config.adapter_out_dim": HIDDEN,
    },
    "emu3": {"vocabulary_map": {"<image>": IMAGE}},
    "ernie4_5_vl_moe": {
        "text_config.moe_intermediate_size": [40, 24],
        "text_config.rope_parameters": _ROPE | {"mrope_section": [2, 2, 2]},
    },
    "gemma3n": {"text_config.layer_types": ["sliding_attention", "full_attention"] * (N_LAYERS // 2)},
    "gemma4+shared": {"text_config.layer_types": ["sliding_attention", "full_attention"] * (N_LAYERS // 2)},
    "glm4v_moe": {"text_config.rope_parameters": _ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]}},
    "glm5_next": {"text_config.num_key_value_heads": 4, "text_config.index_kpool": 4},
    "granite4_vision": {
        "downsample_rate": "1/2",
        "deepstack_layer_map": [(-1, 0), (-2, 1)],
        "spatial_target_layers": [2, 3],
    },
    "granite_docling": {"vision_config.out_hidden_size": HIDDEN},
    "hunyuan_vl": {"text_config.head_dim": 12},
    "inkling2": {"vision_config.text_hidden_size": HIDDEN},
    "muse_spark": {"audio_config.out_hidden_size": HIDDEN, "vision_config.out_hidden_size": HIDDEN},
    "molmo2": {"image_patch_id": IMAGE},
    "instructblipvideo": {"video_token_index": VIDEO} | _TOWER,
    "kosmos-2": _LATENTS,
    "kosmos-2.5": _LATENTS
    | {
        "vision_config.head_dim": 8,
        "vision_config.max_num_patches": N_PATCHES,
        "vision_config.patch_embed_hidden_size": 3 * PIXELS**2 // N_PATCHES,
    },
    "llama4": {"vision_config.vision_output_dim": HIDDEN},
    "lfm2_vl": {"text_config.layer_types": ["conv", "full_attention", "conv"] * (N_LAYERS // 3)},
    "lfm3_vl": {
        "text_config.layer_types": ["conv", "full_attention", "conv", "sliding_attention", "conv", "conv"],
        "text_config.sliding_window": 24,
    },
    "minicpm_ocr": {"image_token_id": IMAGE, "video_token_id": VIDEO} | _LINEAR,
    "minicpmv4_6": {"image_token_id": IMAGE, "video_token_id": VIDEO} | _LINEAR,
    "minicpmv4_7": {"image_token_id": IMAGE, "video_token_id": VIDEO} | _LINEAR,
    "nemotron_h_omni": {
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "text_config.layers_block_type": [*_KINDS[:3], "moe", "full_attention", "mlp"],
        "text_config.n_groups": 2,
        "text_config.moe_shared_expert_intermediate_size": 40,
    },
    "ovis2": {"visual_indicator_token_ids": [1] * 5},
    "perception_lm": {"vision_config": hf.TimmWrapperConfig(model_args={"embed_dim": 64})},
    "pi0": {f"vlm_config.text_config.{name}": SIZES[name] for name in (*_PLAIN, "head_dim")}
    | {f"vlm_config.{name}": value for name, value in _TOWER.items() if name.startswith("vision")}
    | {f"dit_config.{name}": SIZES[name] for name in (*_PLAIN, "head_dim")}
    | {"vlm_config.vision_config.patch_size": PIXELS // 4, "vlm_config.projection_dim": HIDDEN}
    | {"chunk_size": 5, "max_state_dim": 4, "max_action_dim": 3, "num_inference_steps": 3},
    "qwen2_5_omni_thinker": {"vision_start_token_id": OTHER, "audio_start_token_id": 1},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": OTHER, "audio_start_token_id": 1},
    "step3p7": {"text_config.sliding_window": 24},
    "qwen3_5": _LINEAR,
    "qwen3_5_moe": _LINEAR,
    "unlimited_ocr": {"text_config.num_key_value_heads": 4},  # its eager attention knows no shared ones
    "qwen4_exp": {f"text_config.{name}": value for name, value in _INDEXER.items()},
}
"""Model type -> what its config needs beside the walk; keys with a dot lie in a sub-config."""


def base(model_type: str) -> str:
    """A variant's type."""
    return model_type.partition("+")[0]


def tiny_config(model_type: str) -> PretrainedConfig:
    """The type's (or variant's) default config with a small decoder and our token ids; the tower as it is."""
    given = {"text_config": VARIANTS[model_type]} if model_type in VARIANTS else {}
    default = hf.AutoConfig.for_model(base(model_type), **given)
    own = EXCEPTIONS.get(model_type, {})
    return _small(default, default.get_text_config(decoder=True), own, "")


def _small(config: PretrainedConfig, text: PretrainedConfig, own: dict[str, Any], path: str) -> PretrainedConfig:
    """`config` made anew: sizes if it is the decoder's, token ids wherever they stand, sub-configs likewise."""
    given: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            if value is text or _holds(value, text) or any(key.startswith(f"{path}{name}.") for key in own):
                given[name] = _small(value, text, own, f"{path}{name}.")
        elif name in SIZES and config is text and value:
            given[name] = SIZES[name]
        elif name == "rope_parameters" and config is text and _has_planes(config):
            given[name] = _ROPE | (value or {}) | {"mrope_section": [2, 2, 2]}
        elif name in ("hidden_size", "vocab_size") and value and _holds(config, text):
            given[name] = SIZES[name]
        elif config is not text and name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            given[name] = _token(name)
    given |= {name[len(path) :]: value for name, value in own.items() if name.rpartition(".")[0] == path.rstrip(".")}
    if "qk_rope_head_dim" in given:  # latent attention: this is the rotary part's size, and every head has its keys
        given |= {"head_dim": given["qk_rope_head_dim"], "num_key_value_heads": given["num_attention_heads"]}
    return type(config)(**given | {"tie_word_embeddings": False})


def _has_planes(text: PretrainedConfig) -> bool:
    """Do visual tokens have positions in a plane (mrope)? Not every default config says so, the model's code does."""
    module = importlib.import_module(type(text).__module__.replace(".configuration_", ".modeling_"))
    return "mrope_section" in inspect.getsource(module)


def _holds(config: PretrainedConfig, text: PretrainedConfig) -> bool:
    return any(value is text for value in vars(config).values())


def _token(name: str) -> int:
    """Names of places around pictures (start, end) are others."""
    what = name.rsplit("_token_", 1)[0]
    return {"image": IMAGE, "video": VIDEO, "audio": AUDIO, "pad": 0, "bos": 1, "eos": 2}.get(what, OTHER)


def tiny_model(model_type: str, attention: str | None = None, seed: int = 0, empty: bool = False) -> PreTrainedModel:
    """The type's model, fp32: its decoder, and whatever small is around it, drawn at random; its tower empty.

    The same weights whatever the decoder's `attention`; None: as transformers chooses. `empty`: no weights at all.
    """
    torch.manual_seed(seed)
    config = tiny_config(model_type)
    for part in (config, *_parts(config)):
        part._experts_implementation = "eager"  # torch's counter does not see grouped kernels
    with torch.device("meta"), patch.object(hf.AutoModel, "from_config", staticmethod(_without_timm)):
        model = hf.AutoModelForImageTextToText.from_config(config).eval()
    if empty:
        return model
    old = model.get_decoder()
    path = next(name for name, module in model.named_modules() if module is old)
    if sum(weight.numel() for weight in old.parameters()) > 50 * MANY:
        raise ValueError(f"{model_type}: the decoder stayed large; name what sets its sizes in EXCEPTIONS")
    if attention is not None:
        old.config._attn_implementation = attention
    model.set_submodule(path, type(old)(old.config).eval())
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.is_meta:
                module.register_parameter(name, nn.Parameter(torch.ones(weight.shape if weight.numel() < MANY else 0)))
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                shape = buffer.shape if buffer.numel() < MANY else 0
                module.register_buffer(name, torch.zeros(shape, dtype=buffer.dtype))
    return drawn(model)


_from_config = hf.AutoModel.from_config


def _without_timm(config: PretrainedConfig, **given: Any) -> nn.Module:
    """`AutoModel.from_config`, but for towers of the timm library, which is not installed."""
    return nn.Identity() if config.model_type in ("timm_wrapper", "gemma3n_vision") else _from_config(config, **given)


def _parts(config: PretrainedConfig) -> list[PretrainedConfig]:
    own = [value for value in vars(config).values() if isinstance(value, PretrainedConfig)]
    return own + [inner for part in own for inner in _parts(part)]


def drawn(model: PreTrainedModel) -> PreTrainedModel:
    """Random weights, and peaked attention, so that the choice of tokens matters.

    Logits that nothing scales down (Gemma 4, Granite) are peaked as they are; more would show rounding alone.
    """
    decoder = model.get_decoder()
    peaked = tuple(f"{name}." for name, module in decoder.named_modules() if getattr(module, "scaling", None) == 1)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.normal_(std=0.16)
        for name, weight in decoder.named_parameters():
            if name.startswith(peaked):
                continue
            if name.endswith("q_norm.weight"):
                weight.add_(1.5)
            elif name.endswith("q_proj.weight"):
                weight.mul_(2.5)
    return model
