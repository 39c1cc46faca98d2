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
    "bench": (1024, 2752, 16, 16, 1000),
    "llava-1.5-7b": (4096, 11008, 32, 32, 32064),
}


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


def random_llava(dims: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A decoder of the sizes DIMS[dims], made on the device; the vision tower is a stub that `inputs_for` avoids."""
    hidden, intermediate, layers, heads, words = DIMS[dims]
    text = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        vocab_size=words, pad_token_id=PAD,
    )  # fmt: skip
    stub = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=4, patch_size=4
    )
    torch.manual_seed(0)
    with torch.device(device):
        config = LlavaConfig(vision_config=stub, text_config=text, image_token_id=IMAGE)
        return AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()


def inputs_for(model: PreTrainedModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Arguments of `forward`: one batch, padded at the left, with vision features for pixels.

    A prompt's words and features depend on its seed alone, not on the batch.
    """
    text, width = model.config.text_config, max(prompt.n_tokens for prompt in prompts)
    ids = torch.full((len(prompts), width), PAD, device=model.device)
    features = []
    for row, prompt in zip(ids, prompts, strict=True):
        generator = torch.Generator(model.device).manual_seed(prompt.seed)
        row[-prompt.n_tokens :].random_(FIRST_WORD, text.vocab_size, generator=generator)
        end = width - prompt.n_after
        row[end - prompt.n_vision : end] = IMAGE
        picture = torch.empty(prompt.n_vision, text.hidden_size, dtype=model.dtype, device=model.device)
        features.append(picture.normal_(generator=generator))
    return {
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)},
    }
