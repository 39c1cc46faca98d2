"""Toy checkpoints: every family's tiny model, a toy tokenizer and the stock processor, laid out as real ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf
from families import FAMILIES, IMAGE, PATCHES, PINPOINTS, SIDE, TILE
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
}
NAMED |= {"qwen2_5_vl": NAMED["qwen2_vl"], "qwen3_vl": NAMED["qwen2_vl"], "idefics3": NAMED["smolvlm"]}
MORE = {  # special tokens that a family's own prompt needs beside the named ones
    **{name: ["<|vision_start|>", "<|vision_end|>"] for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")},
    **{name: [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)] for name in ("smolvlm", "idefics3")},
}
SHOWN = {"internvl": "<IMG_CONTEXT>", "gemma3": "<start_of_image>"}  # what the chat template puts for a picture
QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
SHOWN |= dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), QWEN)


def tokenizer(family: str) -> hf.PreTrainedTokenizerFast:
    """A few whole words, <unk> for all others; the image token has the id that the family's config names."""
    special = [*NAMED[family].values(), *MORE.get(family, [])]
    words = list(dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", *WORDS, *LETTERS]))
    image = special.pop(0)
    words = [*words[:IMAGE], image, *words[IMAGE:], *special]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=NAMED[family] | {f"more_{i}": word for i, word in enumerate(MORE.get(family, []))},
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def chat_template(family: str) -> str:
    shown = SHOWN.get(family, "<image>")
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
        "gemma3": lambda: hf.Gemma3ImageProcessor(size=_square(side)),
        "paligemma": lambda: hf.SiglipImageProcessor(size=_square(side), image_seq_length=PATCHES),
    }
    makers |= dict.fromkeys(("qwen2_5_vl", "qwen3_vl"), makers["qwen2_vl"])
    return makers[family]()


CLASSES = {
    "llava": "LlavaProcessor", "llava_next": "LlavaNextProcessor", "llava_onevision": "LlavaOnevisionProcessor",
    "internvl": "InternVLProcessor", "qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor", "smolvlm": "SmolVLMProcessor", "idefics3": "Idefics3Processor",
    "gemma3": "Gemma3Processor", "paligemma": "PaliGemmaProcessor",
}  # fmt: skip
SETTINGS = {
    "llava": {"patch_size": 4, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"},
    "llava_onevision": {"num_image_tokens": TILE * TILE, "vision_feature_select_strategy": "full"},
    "internvl": {"image_seq_length": PATCHES},
    "smolvlm": {"image_seq_len": PATCHES},
    "idefics3": {"image_seq_len": PATCHES},
    "gemma3": {"image_seq_length": PATCHES},
}
SETTINGS["llava_next"] = SETTINGS["llava"]


def save_toy(family: str, folder: Path, template: bool = True) -> Path:
    """Model, tokenizer, image processor and processor settings, in the files that hub snapshots have."""
    model = FAMILIES[family].build(vocab_size=SIZE)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    _images(family).save_pretrained(folder)
    settings = {"processor_class": CLASSES[family]} | SETTINGS.get(family, {})
    (folder / "processor_config.json").write_text(json.dumps(settings))
    if template:
        (folder / "chat_template.jinja").write_text(chat_template(family))
    return folder
