"""Gates: a pruned forward on the full-length sequence, with gradients to how many tokens each layer keeps.

A token whose gate is shut is seen by no other token of that layer, as if it had been dropped. A token always sees
itself, so what it would be, were it kept, is known in later layers too.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.eager import eager, plain

WITH_GATES = ("sdpa", "eager")
"""Attention implementations that can be replaced by gated attention: their masks tell of every key."""

_GATED = "autoprune_lab_gates"


@dataclass(frozen=True, eq=False)
class Gate:
    """One layer's: which keys are `shut`; `more` is 0, and its gradient that of the tokens `near` coming in.

    `near` shares a token more out to those that would come next, or go next; each row sums to 1.
    """

    shut: Bool[Tensor, "batch keys"]
    near: Float[Tensor, "batch keys"]
    more: Float[Tensor, "batch"]


@contextmanager
def gated(model: nn.Module, gates: Sequence[Gate | None]) -> Iterator[None]:
    """Inside, decoder layer l attends through `gates[l]`, as ever where that is None; weights get no gradient.

    Raises ValueError for an attention that takes no mask of single keys, and for layers without any.
    """
    anatomy = Anatomy.of(plain(model))
    if anatomy.implementation not in WITH_GATES:
        raise ValueError(f"attention={anatomy.implementation} has no gates: use {' or '.join(WITH_GATES)}")
    with eager(anatomy), _frozen(model), ExitStack() as undo:
        for layer, gate in enumerate(gates):
            if gate is None:
                continue
            attention = anatomy.attention(layer)
            if attention is None:
                raise ValueError(f"layer {layer} of {type(anatomy.model).__name__} has no attention, and so no gates")
            undo.callback(setattr, attention, "config", attention.config)
            attention.config = _Gated(attention.config, gate)
        yield


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in moving:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in moving:
            weight.requires_grad_(True)


class _Gated:
    """Stands in for an attention module's config."""

    _attn_implementation = _GATED

    def __init__(self, config: Any, gate: Gate) -> None:
        self.config, self.gate = config, gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


def _gated_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention to what is not shut; `more` opens a gate by what its token's share would be.

    A token with share s of the attention, itself counted, moves the output by s x (its value - the output): exactly, if
    it comes in; to first order, if it goes.
    """
    if kwargs.get("s_aux") is not None or kwargs.get("softcap") is not None:
        raise ValueError(f"{type(module).__name__} bends its logits or attends to sinks, and so has no gates")
    gate: Gate = module.config.gate
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    n_groups = query.shape[1] // key.shape[1]
    keys, values = (part.repeat_interleave(n_groups, dim=1) for part in (key, value))
    whole = _mask(attention_mask, query, keys)
    others = ~torch.eye(keys.shape[2], dtype=torch.bool, device=query.device)
    shut = gate.shut[:, None, None] & others
    lowest = torch.finfo(query.dtype).min
    output = scaled_dot_product_attention(query, keys, values, whole.masked_fill(shut, lowest), scale=scaling)
    with torch.no_grad():
        logits = (query @ keys.mT).float() * scaling + whole
        total = logits.masked_fill(shut, lowest).logsumexp(-1, keepdim=True)
        share = torch.where(shut, (logits - total).sigmoid(), (logits - total).exp())
        share = (share * gate.near[:, None, None] * others).to(values.dtype)
        opened = share @ values - share.sum(-1, keepdim=True) * output
    output = output + gate.more.to(values.dtype)[:, None, None, None] * opened
    return output.transpose(1, 2).contiguous(), None


def _mask(mask: Tensor | None, query: Tensor, keys: Tensor) -> Tensor:
    """The call's own, of addends: made of booleans (sdpa), or causal where there is none."""
    if mask is None:
        shape = query.shape[2], keys.shape[2]
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)


AttentionInterface.register(_GATED, _gated_attention)
