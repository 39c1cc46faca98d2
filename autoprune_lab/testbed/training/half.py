"""Training at half precision where it pays: matrices in bfloat16, attention and everything else in float32.

On CPUs with bfloat16 instructions matrices are faster so, and attention is slower than in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, LlavaForConditionalGeneration

NAME = "float32_sdpa"


def run_decoder_at_half(model: LlavaForConditionalGeneration) -> None:
    """Wrap every decoder layer of `model` for the rest of its life; weights stay float32."""
    AttentionInterface.register(NAME, _attention)
    for layer in model.model.language_model.layers:
        layer.self_attn.config._attn_implementation = NAME
        layer.forward = _at_half(layer.forward)


def _at_half(forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(*args, **kwargs)

    return wrapped


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    with torch.autocast("cpu", enabled=False):
        output = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=attention_mask, scale=scaling, dropout_p=dropout
        )
    return output.transpose(1, 2).contiguous(), None
