"""Prefix: what the layers before the first cut gave a batch, kept, so that later prefills begin behind them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.cache import cache_of
from autoprune_lab.decoder.deepstack import adds_features
from autoprune_lab.decoder.mixers import attention_of
from autoprune_lab.decoder.shadow import shadowed
from autoprune_lab.decoder.tap import Tapped, arm, disarm, hand_over


@dataclass(frozen=True, eq=False)
class Prefix:
    """Output (batch, tokens, hidden) of the last of the layers, keys and values of each, the last one's attention."""

    hidden: Tensor
    held: tuple[tuple[Tensor, Tensor], ...]
    tapped: Tapped

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        tensors = [self.hidden, *(part for pair in self.held for part in pair), self.tapped.query, self.tapped.mask]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class _Reached(Exception):  # noqa: N818 - not an error
    def __init__(self, output: Any, cache: Cache | None) -> None:
        self.output, self.cache = output, cache


@torch.inference_mode()
def read_prefix(model: PreTrainedModel, arguments: dict[str, Any], last: int) -> Prefix | None:
    """Run layers 0 to `last` on `generate`'s arguments, no pruner attached; None for a model that cannot be resumed."""
    anatomy = Anatomy.of(model)
    whole = all(anatomy.sees_all(index) and index in anatomy.attentive for index in range(last + 1))
    if not whole or adds_features(anatomy.decoder) or anatomy.shares:
        return None

    def leave(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        raise _Reached(output, cache_of(kwargs))

    layer, tapped = anatomy.layers[last], list[Tapped]()
    hook = layer.register_forward_hook(leave, with_kwargs=True)
    arm(anatomy.attention(last), tapped.append)
    try:
        generate: Any = model.generate
        generate(**arguments, max_new_tokens=1, do_sample=False)
    except _Reached as reached:
        if not isinstance(reached.output, Tensor) or reached.cache is None or not tapped:
            return None
        layers: Any = reached.cache.layers[: last + 1]
        held = tuple((one.keys, one.values) for one in layers)
        return Prefix(reached.output, held, tapped[0])
    finally:
        hook.remove()
        disarm(anatomy.attention(last))
    return None


@contextmanager
def replayed(model: PreTrainedModel, prefix: Prefix) -> Iterator[None]:
    """Inside the block, a prefill of the same arguments does not compute the prefix's layers; nothing else changes."""
    layers = Anatomy.of(model).layers
    with ExitStack() as undo:
        for index in range(len(prefix.held)):
            replay = partial(_replay, prefix, index, layers[index], layers[index].forward)
            undo.enter_context(shadowed(layers[index], "forward", replay))
        yield


def _replay(
    prefix: Prefix,
    index: int,
    layer: nn.Module,
    forward: Callable[..., Any],
    hidden_states: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    cache = cache_of(kwargs)
    if cache is None or cache.get_seq_length(index):  # decoding
        return forward(hidden_states, *args, **kwargs)
    cache.update(*prefix.held[index], index)
    if index < len(prefix.held) - 1:
        return hidden_states  # nobody reads it
    hand_over(attention_of(layer), prefix.tapped)
    return prefix.hidden
