"""Arguments of decoder layers that hold a value per token, told by their shape and not by their name."""

from typing import Any

import torch
from torch import Tensor

from autoprune_lab.decoder.checks import form
from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.masks import narrow_mask


def narrow_tokens(name: str, value: Any, stage: Stage, samples: Tensor) -> Any:
    """`value`, an argument of a layer, for the tokens of `stage`; what holds none per token comes back as it is.

    Tensors are followed into lists, tuples and dicts. With b samples (or 1 for all of them) and n positions a tensor
    may be (b, n, ...), (axes, b, n) of whole numbers, or a mask (b, heads, n, n); `samples` (b, 1) counts the samples.
    ValueError, naming the argument, for any other shape that n or b x n is a part of.
    """
    if isinstance(value, Tensor):
        return _narrow(name, value, stage, samples)
    if type(value) in (list, tuple):
        parts = [narrow_tokens(name, part, stage, samples) for part in value]
        return type(value)(parts) if _changed(parts, value) else value
    if type(value) is dict:
        narrowed = {key: narrow_tokens(f"{name}[{key!r}]", part, stage, samples) for key, part in value.items()}
        # layers may write into a dict that they share: it stays the same one where nothing in it is narrowed
        return narrowed if _changed(narrowed.values(), value.values()) else value
    return value


def _narrow(name: str, value: Tensor, stage: Stage, samples: Tensor) -> Tensor:
    batch, n = stage.others.shape
    shape, for_each = value.shape, {1, batch}
    if n not in shape and batch * n not in shape:
        return value
    if value.ndim == 4 and shape[2:] == (n, n) and shape[0] in for_each:
        return narrow_mask(value, stage, samples)
    if value.ndim > 1 and shape[1] == n and shape[0] in for_each:
        return value[0][stage.index] if shape[0] == 1 else value[samples, stage.index]
    if value.ndim == 3 and shape[2] == n and shape[1] in for_each and not torch.is_floating_point(value):
        return value.expand(-1, batch, -1).gather(2, stage.index.expand(len(value), -1, -1))
    raise ValueError(
        f"a decoder layer is given {name}, {form(value)}, which holds the prompt's {n} positions in a way that is not "
        f"known: leave {name} out of the call, or use a model that can do without it"
    )


def _changed(parts: Any, before: Any) -> bool:
    return any(new is not old for new, old in zip(parts, before, strict=True))
