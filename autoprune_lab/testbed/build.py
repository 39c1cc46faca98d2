"""Builds the embedded VLMs: stock LLaVA with a [CLS] tower, small enough to ship and to train on two cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

PAD, UNKNOWN, BOS, EOS, IMAGE = "<pad>", "<unk>", "<s>", "</s>", "<image>"
USER, ASSISTANT = "USER:", "ASSISTANT:"
SPECIAL = (PAD, UNKNOWN, BOS, EOS, IMAGE, USER, ASSISTANT)
# The template of llava-hf/llava-1.5-7b-hf, for one turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Layout:
    """What tells one world's model from another's: words in token order, picture size, decoder size.

    `digits_apart`: numbers are read digit by digit; otherwise every word is one token.
    """

    words: tuple[str, ...]
    image_size: int
    patch: int
    n_layers: int
    hidden: int
    digits_apart: bool


def prompt(question: str) -> str:
    """The LLaVA-1.5 prompt of one question about one image."""
    return f"{USER} {IMAGE}\n{question} {ASSISTANT}"


def build_processor(layout: Layout) -> LlavaProcessor:
    """Word-level tokenizer and CLIP image processor."""
    words = list(layout.words)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    digits = [pre_tokenizers.Split(Regex("[0-9]"), behavior="isolated")] if layout.digits_apart else []
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), *digits])
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, words.index(BOS))])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    size = {"height": layout.image_size, "width": layout.image_size}
    image_processor = CLIPImageProcessor(
        size=size, crop_size=size, do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=layout.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def build_untrained(layout: Layout, seed: int) -> LlavaForConditionalGeneration:
    """An untrained model of any layout."""
    image = layout.words.index(IMAGE)
    config = LlavaConfig(  # type: ignore[call-arg]  # it takes image_token_id, too
        vision_config=_vision_config(layout),
        text_config=_text_config(layout),
        image_token_index=image,
        image_token_id=image,
        vision_feature_layer=-1,
        image_seq_length=(layout.image_size // layout.patch) ** 2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: LlavaForConditionalGeneration = LlavaForConditionalGeneration(config).float()  # type: ignore[no-untyped-call]
    for name, value in _special_ids(layout.words).items():
        setattr(model.generation_config, name, value)
    return model


def _vision_config(layout: Layout) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=layout.image_size,
        patch_size=layout.patch,
        projection_dim=128,
    )


def _text_config(layout: Layout) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(layout.words),
        hidden_size=layout.hidden,
        intermediate_size=layout.hidden * 11 // 4,
        num_hidden_layers=layout.n_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        **_special_ids(layout.words),
    )


def _special_ids(words: Sequence[str]) -> dict[str, Any]:
    return {f"{name}_token_id": words.index(word) for name, word in (("bos", BOS), ("eos", EOS), ("pad", PAD))}
