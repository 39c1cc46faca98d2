"""What a prefill costs beside the decoder's arithmetic: FLOPs of the vision tower, bytes in the KV cache."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop
from transformers import Cache

from autoprune_lab.decoder.mixers import held_by, states_of
from autoprune_lab.decoder.shadow import shadowed

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], int]] = WeakKeyDictionary()
"""What a module's forward calls cost, by the module's size and the inputs: counted once a process."""


class Meter:
    """Counts the FLOPs of a module's forward calls: once per distinct inputs by torch, then from memory.

    Floating-point and boolean inputs are told apart by shape, integers (Qwen's picture grids) by value; a module that
    has got or lost weights is counted anew. Exact for whatever torch computes; attention kernels from elsewhere (the
    flash_attn package) are not seen.
    """

    def __init__(self) -> None:
        self.spent = 0

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[None]:
        """Count the calls of `module` inside the block."""
        forward, known = module.forward, _KNOWN.setdefault(module, {})
        n_weights = functools.cache(lambda: sum(weight.numel() for weight in module.parameters()))  # once a block

        @functools.wraps(forward)
        def metered(*args: Any, **kwargs: Any) -> Any:
            key = n_weights(), *(_trait(value) for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            if key in known:
                output = forward(*args, **kwargs)
            else:
                with flop_counter() as counter:
                    output = forward(*args, **kwargs)
                known[key] = counter.get_total_flops()
            self.spent += known[key]
            return output

        with shadowed(module, "forward", metered):
            yield

    def take(self) -> int:
        """FLOPs since the last call of this function."""
        spent, self.spent = self.spent, 0
        return spent


def flop_counter() -> FlopCounterMode:
    """Torch's counter, which alone would miss CPU attention: that kernel has no formula there."""
    return FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})


def share(flops: int, n_vision: Sequence[int]) -> list[int]:
    """`flops` divided among samples by their visual tokens: exact where all pictures have one size."""
    everything = sum(n_vision) or 1
    return [flops * n // everything for n in n_vision]


def cache_bytes(cache: Cache | None, n_tokens: Int[np.ndarray, "batch layers"]) -> Int[np.ndarray, "batch"]:
    """Bytes of each sample's keys, values and states, its padding left out; 0 without a cache.

    `n_tokens` of a sample entered each layer. A sliding layer holds no more than its window; a state is of one size.
    """
    held = np.zeros(len(n_tokens), dtype=np.int64)
    if cache is None:
        return held
    layers: Any = cache.layers
    for layer, n in zip(layers, n_tokens.T, strict=False):  # some make no list of layers that hold nothing
        held += sum(state[:1].nbytes for state in states_of(layer) if state is not None)
        if (pair := held_by(layer)) is None:  # without attention, or attends to an earlier one's
            continue
        held += sum(map(_token_bytes, pair)) * np.minimum(n, pair[0].shape[2])
    return held


def _token_bytes(part: Shaped[Tensor, "batch heads tokens dim"]) -> int:
    """What the keys, or values, of one token take in one layer."""
    return part.shape[1] * part.shape[3] * part.element_size()


def _trait(value: Tensor) -> tuple[Any, ...]:
    by_shape = value.is_floating_point() or value.dtype == torch.bool
    return tuple(value.shape if by_shape else value.flatten().tolist())


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop(query, key, value)
