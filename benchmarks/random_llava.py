"""LLaVA with random weights, and prompts for it: what the speed benchmarks run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

PAD, IMAGE, FIRST_WORD = 0, 3, 4
N_SYSTEM = 35
"""Text tokens before the picture, as in LLaVA-1.5."""
DIMS = {  # hidden, intermediate, layers, heads, vocabulary
    "tiny": (64, 160, 16, 4, 200),
    "small": (256, 688, 8, 4, 200),
    "many-heads": (256, 688, 4, 32, 200),
    "bench": (1024, 2752, 16, 16, 1000),
    "llava-1.5-7b": (4096, 11008, 32, 32, 32064),
}
TOWERS = {  # CLIP: hidden, intermediate, layers, heads, side of a picture, side of a patch
    "tiny": (32, 64, 3, 2, 24, 4),
    "small": (64, 128, 3, 2, 96, 4),
    "bench": (256, 1024, 8, 4, 336, 14),
    "llava-1.5-7b": (1024, 4096, 24, 16, 336, 14),
}
STUB = 8, 8, 1, 1, 4, 4


@dataclass(frozen=True)
class Prompt:
    """A picture between N_SYSTEM and `n_after` text tokens; `seed` makes words and picture, `bits` is a complexity."""

    n_vision: int
    n_after: int = 60
    seed: int = 0
    bits: float = 0.0

    @property
    def n_text(self) -> int:
        """All but the picture."""
        return N_SYSTEM + self.n_after

    @property
    def n_tokens(self) -> int:
        """Tokens before any pruning."""
        return self.n_vision + self.n_text


def random_llava(dims: str, device: str, dtype: torch.dtype, tower: bool = False) -> PreTrainedModel:
    """A decoder of the sizes DIMS[dims], made on the device; without `tower` the vision tower is a stub."""
    hidden, intermediate, layers, heads, words = DIMS[dims]
    text = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        vocab_size=words, pad_token_id=PAD,
    )  # fmt: skip
    width, inner, depth, tower_heads, side, patch = TOWERS[dims] if tower else STUB
    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=depth, num_attention_heads=tower_heads,
        image_size=side, patch_size=patch,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()


def inputs_for(model: PreTrainedModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Arguments of `forward`: one batch with vision features for pixels."""
    size = model.config.text_config.hidden_size
    features = [_drawn(model, prompt, (prompt.n_vision, size)) for prompt in prompts]
    return _words(model, prompts) | {
        "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}
    }


def pixel_inputs(model: PreTrainedModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The same with pixels, for a model with a tower that makes `n_vision` tokens of each picture."""
    side = model.config.vision_config.image_size
    pixels = torch.stack([_drawn(model, prompt, (3, side, side)) for prompt in prompts])
    return _words(model, prompts) | {"pixel_values": pixels}


def _words(model: PreTrainedModel, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Ids and mask, padded at the left; a prompt's words depend on its seed alone, not on the batch."""
    width = max(prompt.n_tokens for prompt in prompts)
    ids = torch.full((len(prompts), width), PAD, device=model.device)
    for row, prompt in zip(ids, prompts, strict=True):
        generator = torch.Generator(model.device).manual_seed(prompt.seed)
        row[-prompt.n_tokens :].random_(FIRST_WORD, model.config.text_config.vocab_size, generator=generator)
        end = width - prompt.n_after
        row[end - prompt.n_vision : end] = IMAGE
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def _drawn(model: PreTrainedModel, prompt: Prompt, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator(model.device).manual_seed(prompt.seed)
    return torch.empty(shape, dtype=model.dtype, device=model.device).normal_(generator=generator)
