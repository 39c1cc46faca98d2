"""Attention whose temperature grows with a token's place (Llama 4): told where each token stood before any cut.

Such a layer counts places by its cache and its input, both of which a cut shortens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from autoprune_lab.decoder.mixers import attention_of
from autoprune_lab.decoder.shadow import shadowed

_SWITCH = "attn_temperature_tuning"


def counts_places(layer: nn.Module) -> bool:
    """Does this layer scale queries by a place that it counts itself?"""
    attention = attention_of(layer)
    return bool(getattr(attention, _SWITCH, False)) and not getattr(attention, "use_rope", False)


@contextmanager
def by_original_place(layer: nn.Module, places: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block `layer` scales its queries by `places` of its input: (1 or batch, tokens).

    The product is taken off the query projection, where it is the same number: these layers turn no query in between.
    """
    attention: Any = layer.self_attn

    def scaled(module: nn.Module, args: Any, query: Tensor) -> Tensor:
        steps = torch.floor((places(args[0]).to(query.device).float() + 1.0) / attention.floor_scale)
        scales = torch.log1p(steps) * attention.attn_scale + 1.0
        return query.mul(scales[..., None]).to(query.dtype)

    hook = attention.q_proj.register_forward_hook(scaled)
    try:
        with shadowed(attention, _SWITCH, False):
            yield
    finally:
        hook.remove()
