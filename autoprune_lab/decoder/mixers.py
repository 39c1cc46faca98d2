"""Mixers: which part of a decoder layer lets its tokens know of each other, and what other than attention may.

Layers of linear attention, convolution or state spaces read the tokens in their order and carry a state along; MLPs and
experts may be layers by themselves. Tokens that left the sequence are not in any of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

OTHERS = {"linear_attention", "conv", "mlp", "moe"}
"""Kinds of layers without attention, as transformers' configs name them, that may simply get fewer tokens."""

STATES = "conv_states", "recurrent_states"
"""What the layers of transformers' caches call what they hold of all tokens at once; recurrences stay in float32."""


def states_of(layer: Any, names: Sequence[str] = STATES) -> Iterator[Tensor | None]:
    """What a layer of a cache holds of all tokens at once: of convolutions, then of recurrences."""
    for name in names:
        held = getattr(layer, name, {})
        yield from held.values() if isinstance(held, dict) else (held,)  # older transformers: one of each


def held_by(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Keys and values of the prompt, (batch, heads, n, dim), in a layer of a cache that has just got it.

    None where it holds none. Unlimited-OCR's holds them apart from what follows.
    """
    for before in ("prefill_", ""):
        keys, values = (getattr(layer, f"{before}{name}", None) for name in ("keys", "values"))
        if keys is not None and values is not None and keys.numel():
            return keys, values
    return None


def attention_of(layer: nn.Module) -> Any:
    """The attention module of a decoder layer; None where it has none."""
    attention = getattr(layer, "self_attn", None)
    mixer = getattr(layer, "mixer", None)  # Nemotron-H: whatever a layer does
    return mixer if attention is None and hasattr(mixer, "is_causal") else attention


def takes_keys(layer: nn.Module) -> bool:
    """Does it make no keys and values of its own (Gemma 3n, Gemma 4's small ones), but takes an earlier layer's?"""
    return bool(getattr(attention_of(layer), "is_kv_shared_layer", False))


def leaks(layer: nn.Module) -> bool:
    """Would padding, whose hidden states a layer without attention zeroes first, still enter its state?"""
    return attention_of(layer) is None and any(
        name.rpartition(".")[2].startswith("in_proj") and getattr(module, "bias", None) is not None
        for name, module in layer.named_modules()
    )
