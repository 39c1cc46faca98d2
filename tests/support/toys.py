"""Toy checkpoints: every family's tiny model, a toy tokenizer and the stock processor, laid out as real ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf
from families import FAMILIES, IMAGE, PATCHES, PINPOINTS, SIDE, TILE
from popular import POPULAR
from tokenizers import Tokenizer, models, pre_tokenizers

SIZE = 128  # of the vocabulary
WORDS = (
    "yes", "no", "user:", "assistant:", "Is", "there", "a", "cat", "in", "the", "image?", "What", "is",
    "Answer", "question", "using", "single", "word", "or", "phrase.",
)  # fmt: skip
LETTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
NAMED = {
    "llava": {"image_token": "<image>"},
    "llava_next": {"image_token": "<image>"},
    "llava_onevision": {"image_token": "<image>", "video_token": "<video>"},
    "internvl": {
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    },
    "qwen2_vl": {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    "smolvlm": {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
        "video_token": "<video>",
    },
    "gemma3": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    "paligemma": {"image_token": "<image>"},
    "gemma4": {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    },
    "glm4_6v": {"image_token": "<|image|>", "video_token": "<|video|>"},
    "mistral_small": {"image_token": "[IMG]"},
    "llama4": {"image_token": "<|patch|>"},
    "minicpm_v_4_6": {"image_token": "<|image_pad|>"},
}
LIKE = {  # whose entry a family has in a table where it has none of its own
    "idefics3": "smolvlm", "qwen2_5_vl": "qwen2_vl", "qwen3_vl": "qwen2_vl", "qwen3_vl_moe": "qwen2_vl",
    "qwen3_5": "qwen2_vl", "qwen3_5_moe": "qwen2_vl",
    "gemma4_moe": "gemma4", "internvl3_5": "internvl", "internvl3_5_moe": "internvl", "glm4_6v_moe": "glm4_6v",
    "ministral3": "mistral_small",
}  # fmt: skip
MORE = {  # special tokens that a family's own prompt needs beside the named ones
    "qwen2_vl": ["<|vision_start|>", "<|vision_end|>"],
    "smolvlm": [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)],
    "glm4_6v": ["<|begin_of_image|>", "<|end_of_image|>"],
    "mistral_small": ["[IMG_BREAK]", "[IMG_END]"],
}
SHOWN = {  # what the chat template puts for a picture
    "internvl": "<IMG_CONTEXT>",
    "qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "<start_of_image>",
    "gemma4": "<|image|>",
    "glm4_6v": "<|begin_of_image|><|image|><|end_of_image|>",
    "mistral_small": "[IMG]",
    "llama4": "<|image|>",
}


def _of(table: dict[str, Any], family: str, default: Any = None) -> Any:
    """The family's own entry, or that of the family whose processor it has."""
    return table.get(family, table.get(LIKE.get(family, family), default))


def tokenizer(family: str) -> hf.PreTrainedTokenizerFast:
    """A few whole words, <unk> for all others; the image token has the id that the family's config names."""
    named, more = _of(NAMED, family), _of(MORE, family, [])
    special = [*named.values(), *more]
    words = list(dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", *WORDS, *LETTERS]))
    image = special.pop(0)
    words = [*words[:IMAGE], image, *words[IMAGE:], *special]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=named | {f"more_{i}": word for i, word in enumerate(more)},
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def chat_template(family: str) -> str:
    shown = _of(SHOWN, family, "<image>")
    return (
        "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}{% if part['type'] == 'image' %}"
        + shown
        + "\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} assistant:{% endif %}"
    )


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _images(family: str) -> Any:
    side, tile = 4 * SIDE, 4 * TILE
    makers: dict[str, Callable[[], Any]] = {
        "llava": lambda: hf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=_square(side)),
        "llava_next": lambda: hf.LlavaNextImageProcessor(
            size={"shortest_edge": tile}, crop_size=_square(tile), **PINPOINTS
        ),
        "llava_onevision": lambda: hf.LlavaOnevisionImageProcessor(size=_square(tile), **PINPOINTS),
        "internvl": lambda: hf.GotOcr2ImageProcessor(size=_square(side), min_patches=1, max_patches=2),
        "qwen2_vl": lambda: hf.Qwen2VLImageProcessor(patch_size=4, min_pixels=8 * 8 * 12, max_pixels=8 * 8 * 24),
        "smolvlm": lambda: hf.SmolVLMImageProcessor(size={"longest_edge": side}, max_image_size={"longest_edge": side}),
        "idefics3": lambda: hf.Idefics3ImageProcessor(
            size={"longest_edge": side}, max_image_size={"longest_edge": side}
        ),
        "mistral_small": lambda: hf.PixtralImageProcessor(patch_size=8, size={"longest_edge": 2 * side}),
        "minicpm_v_4_6": lambda: hf.MiniCPMV4_6ImageProcessor(patch_size=4, scale_resolution=4 * side),
        "gemma4": lambda: hf.Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70),
        "glm4_6v": lambda: hf.Glm46VImageProcessor(
            patch_size=4, size={"shortest_edge": 2 * 8 * 8 * 12, "longest_edge": 2 * 8 * 8 * 24}
        ),
        "gemma3": lambda: hf.Gemma3ImageProcessor(size=_square(side)),
        "paligemma": lambda: hf.SiglipImageProcessor(size=_square(side), image_seq_length=PATCHES),
    }
    return _of(makers, family)()


CLASSES = {
    "llava": "LlavaProcessor", "llava_next": "LlavaNextProcessor", "llava_onevision": "LlavaOnevisionProcessor",
    "internvl": "InternVLProcessor", "qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor", "smolvlm": "SmolVLMProcessor", "idefics3": "Idefics3Processor",
    "gemma3": "Gemma3Processor", "paligemma": "PaliGemmaProcessor", "qwen3_vl_moe": "Qwen3VLProcessor",
    "gemma4": "Gemma4Processor", "glm4_6v": "Glm46VProcessor", "mistral_small": "PixtralProcessor",
    "llama4": "Llama4Processor", "qwen3_5": "Qwen3VLProcessor", "qwen3_5_moe": "Qwen3VLProcessor",
    "minicpm_v_4_6": "MiniCPMV4_6Processor",
}  # fmt: skip
SETTINGS = {
    "llava": {"patch_size": 4, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
    "llava_onevision": {"num_image_tokens": TILE * TILE, "vision_feature_select_strategy": "full"},
    "internvl": {"image_seq_length": PATCHES},
    "smolvlm": {"image_seq_len": PATCHES},
    "idefics3": {"image_seq_len": PATCHES},
    "gemma3": {"image_seq_length": PATCHES},
    "mistral_small": {"patch_size": 4, "spatial_merge_size": 2},
    "llama4": {"patch_size": 4, "pixel_shuffle_ratio": 0.5},
}
SETTINGS["llava_next"] = SETTINGS["llava"]


def save_toy(family: str, folder: Path, template: bool = True) -> Path:
    """Model, tokenizer, image processor and processor settings, in the files that hub snapshots have."""
    model = (FAMILIES | POPULAR)[family].build(vocab_size=SIZE)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    if family == "llama4":  # its class cannot be made without torchvision
        (folder / "preprocessor_config.json").write_text('{"image_processor_type": "Llama4ImageProcessorFast"}')
    else:
        _images(family).save_pretrained(folder)
    settings = {"processor_class": _of(CLASSES, family)} | _of(SETTINGS, family, {})
    (folder / "processor_config.json").write_text(json.dumps(settings))
    if template:
        (folder / "chat_template.jinja").write_text(chat_template(family))
    return folder
