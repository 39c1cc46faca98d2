"""The tiny LLaVA that most tests run on; see `families` for its relatives."""

from families import FAMILIES, IMAGE, N_LAYERS, PATCHES
from transformers import LlavaForConditionalGeneration

__all__ = ["IMAGE", "LLAVA", "N_LAYERS", "PATCHES", "batch", "sample", "tiny_llava"]

LLAVA = FAMILIES["llava"]
sample, batch = LLAVA.sample, LLAVA.batch


def tiny_llava(seed: int = 0, n_kv_heads: int = 2, attention: str = "sdpa") -> LlavaForConditionalGeneration:
    """Same seed -> same weights, whatever the attention implementation."""
    return LLAVA.build(attention, seed, num_key_value_heads=n_kv_heads)
