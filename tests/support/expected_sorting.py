"""What each type of the mapping is known to do: sorting -> types. Whoever mends or adds one moves its name.

`exact`; `refused: ` and words of the reason; `not applicable` (why: `sorting.NOT_APPLICABLE`); `broken: ` and the
columns that are at fault.
"""

_SORTED = {
    "exact": """
        aya_vision chameleon cohere2_vision deepseek_vl deepseek_vl_hybrid emu3 fast_vlm gemma3 glm46v glm4v glm_ocr
        glmga got_ocr2 granite_docling hunyuan_vl idefics2 idefics3 internvl janus lighton_ocr llava llava_next
        mistral3 molmo2 ovis2 paddleocr_vl paligemma pp_chart2table qianfan_ocr shieldgemma2 smolvlm vipllava
    """,
    "refused: linear_attention": """
        minicpm_ocr minicpmv4_6 minicpmv4_7 nemotron_h_omni qwen3_5 qwen3_5_moe qwen4_exp
    """,
    "refused: indexed_attention": """
        dots3_note glm5_next mistral_large4
    """,
    "refused: no image_token_id": """
        instructblipvideo kosmos-2 kosmos-2.5
    """,
    "refused: hybrid": """
        inkling2 inkling_mm_model
    """,
    "refused: conv": """
        lfm2_vl lfm3_vl
    """,
    "refused: block diffusion": """
        diffusion_gemma
    """,
    "refused: chunked_attention": """
        llama4
    """,
    "refused: reference_sliding_attention": """
        unlimited_ocr
    """,
    "not applicable": """
        blip evolla florence2 git idefics mistral4 mllama pi0 pix2struct pp_formulanet t5gemma2 udop
        vision-encoder-decoder
    """,
    "broken: video mixed": """
        cohere_compass cosmos3_omni exaone4_5 hyperclovax_vision_v2 llava_next_video llava_onevision perception_lm
        qwen2_5_omni_thinker qwen2_5_vl qwen2_vl qwen3_vl video_llama_3 video_llava
    """,
    "broken: video mixed flops": """
        cosmos3_edge ernie4_5_vl_moe kimi_k25 minimax_m3_vl qwen3_omni_moe_thinker qwen3_vl_moe
    """,
    "broken: flops": """
        aria deepseek_ocr2 fuyu glm4v_moe step3p7
    """,
    "broken: image batch flops": """
        blip-2 instructblip
    """,
    "broken: image batch positions flops": """
        gemma3n granite4_vision
    """,
    "broken: image batch video mixed positions flops": """
        gemma4 gemma4_unified
    """,
    "broken: batch video mixed positions flops": """
        muse_glimmer muse_spark
    """,
}

EXPECTED = {model_type: sorting for sorting, types in _SORTED.items() for model_type in types.split()}
REPRESENTATIVES = [types.split()[0] for types in _SORTED.values()]
"""One type of every cause: they run in the fast suite."""
