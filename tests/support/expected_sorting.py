"""What each type of the mapping, and each variant, is known to do: sorting -> types. Who mends one moves its name.

`exact`; `refused: ` and words of the reason; `not applicable` (why: `sorting.NOT_APPLICABLE`); `broken: ` and the
columns that are at fault.
"""

import transformers

MADE_WITH = (5, 23)
OLDER = tuple(int(part) for part in transformers.__version__.split(".")[:2]) < MADE_WITH
"""Does this transformers lack some of the types, or compute them otherwise than is known here?"""

_SORTED = {
    "exact": """
        aria aya_vision blip-2 chameleon cohere2_vision cohere_compass cosmos3_edge cosmos3_omni deepseek_ocr2
        deepseek_vl deepseek_vl_hybrid emu3 ernie4_5_vl_moe exaone4_5 fast_vlm fuyu gemma3 gemma3n gemma4
        gemma4+shared gemma4_unified
        glm46v glm4v glm4v_moe glm_ocr glmga got_ocr2 granite4_vision granite_docling hunyuan_vl
        hyperclovax_vision_v2 idefics2 idefics3 instructblip instructblip+llama
        instructblipvideo internvl janus kimi_k25 kosmos-2 kosmos-2.5 lfm2_vl lfm3_vl lighton_ocr llama4 llava
        llava+qwen3_moe llava_next llava_next_video llava_onevision minicpm_ocr minicpmv4_6 minicpmv4_7
        minimax_m3_vl mistral3 mistral3+ministral3 mistral3+mistral4 molmo2 muse_glimmer muse_spark
        nemotron_h_omni ovis2 paddleocr_vl paligemma paligemma+gemma2 perception_lm pi0 pp_chart2table qianfan_ocr
        qwen2_5_omni_thinker qwen2_5_vl qwen2_vl qwen3_5 qwen3_5_moe qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe
        shieldgemma2 smolvlm step3p7 unlimited_ocr video_llama_3 video_llava vipllava
    """,
    "refused: block diffusion": """
        diffusion_gemma
    """,
    "refused: goes through an encoder": """
        instructblip+t5
    """,
    "refused: an encoder reads its pictures": """
        blip-2+t5
    """,
    "refused: hybrid": """
        inkling2 inkling_mm_model
    """,
    "refused: indexed_attention": """
        dots3_note glm5_next mistral_large4 qwen4_exp
    """,
    "not applicable": """
        blip evolla florence2 git idefics mistral4 mllama pix2struct pp_formulanet t5gemma2 udop
        vision-encoder-decoder
    """,
}

EXPECTED = {model_type: sorting for sorting, types in _SORTED.items() for model_type in types.split()}
REPRESENTATIVES = [
    *(types.split()[0] for types in _SORTED.values()),
    "blip-2",  # a language model inside with a `generate` of its own, learned positions
    "ernie4_5_vl_moe",  # experts of pictures, and of text
    "gemma3n",  # keys of earlier layers, several streams of hidden states
    "gemma4",  # heads of unlike sizes, videos
    "gemma4+shared",  # keys of earlier layers, inputs of each layer
    "granite4_vision",  # features added inline
    "kosmos-2",  # pictures told by marks, as ids and features to a language model inside
    "lfm3_vl",  # layers of convolution, windows
    "llama4",  # chunks, and queries scaled by place
    "muse_glimmer",  # layers without a rotary embedding
    "nemotron_h_omni",  # layers of a state space, of an MLP, of experts
    "paligemma+gemma2",  # windows behind a prefix, soft-capped logits
    "pi0",  # an expert that makes actions on the prompt's cache
    "qwen3_5",  # layers of linear attention
    "qwen3_vl_moe",  # features added between layers, positions in a plane, experts
    "unlimited_ocr",  # windows that a prompt is never out of
]
"""One type of every cause: they run in the fast suite."""
