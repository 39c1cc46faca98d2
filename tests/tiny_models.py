"""Tiny random LLaVA models and inputs for tests: no download, no tokenizer, attention far from uniform."""

from dataclasses import dataclass

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

IMAGE, PAD, VOCAB = 63, 0, 64
N_LAYERS, SIDE = 6, 4
PATCHES = SIDE * SIDE


@dataclass
class Sample:
    ids: torch.Tensor  # (tokens,)
    pixels: torch.Tensor  # (images, 3, height, width)


def tiny_llava(seed: int = 0, n_kv_heads: int = 2, attention: str = "sdpa") -> LlavaForConditionalGeneration:
    """Same seed -> same weights, whatever the attention implementation."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        image_size=4 * SIDE, patch_size=4, projection_dim=16, initializer_range=0.3,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCAB, hidden_size=48, intermediate_size=80, num_hidden_layers=N_LAYERS,
        num_attention_heads=4, num_key_value_heads=n_kv_heads, max_position_embeddings=512,
        initializer_range=0.16, pad_token_id=PAD, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE)
    model = LlavaForConditionalGeneration(config).eval()
    for layer in model.get_decoder().layers:  # peaked attention, so that the choice of tokens matters
        layer.self_attn.q_proj.weight.data *= 2.5
    model.set_attn_implementation(attention)
    return model


def sample(seed: int, n_images: int = 1, before: int = 4, after: int = 8) -> Sample:
    """`before` text tokens, then per image PATCHES visual and `after` text tokens (0 images: text only)."""
    generator = torch.Generator().manual_seed(seed)
    text = [torch.randint(3, IMAGE, (n,), generator=generator) for n in (before, *[after] * max(n_images, 1))]
    parts = [
        text[0],
        *(part for words in text[1:] for part in ([torch.full((PATCHES,), IMAGE)] * bool(n_images) + [words])),
    ]
    return Sample(torch.cat(parts), torch.randn(n_images, 3, 4 * SIDE, 4 * SIDE, generator=generator))


def batch(samples: list[Sample], side: str = "left", extra: int = 0) -> dict[str, torch.Tensor]:
    """Model inputs, padded at `side` to the longest sample (and `extra` more)."""
    width = max(len(s.ids) for s in samples) + extra
    ids = torch.full((len(samples), width), PAD)
    mask = torch.zeros_like(ids)
    for i, s in enumerate(samples):
        place = slice(width - len(s.ids), width) if side == "left" else slice(0, len(s.ids))
        ids[i, place], mask[i, place] = s.ids, 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    pixels = torch.cat([s.pixels for s in samples])
    return inputs | {"pixel_values": pixels} if len(pixels) else inputs
