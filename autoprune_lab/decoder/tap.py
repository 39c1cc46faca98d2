"""The tap: takes the queries and keys out of one attention call, whatever the attention implementation.

An armed attention module reads its implementation from a stand-in config that names the tap. The tap puts the
real config back, hands references of queries and keys to the recorder, and calls the real implementation: one
call is tapped, nothing is computed, and no other module or model is involved.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autoprune_lab.decoder.layout import take

_NAME, _LOOK = "autoprune_lab_tap", "autoprune_lab_look"
_FEW = 2**18  # logits: a megabyte


@dataclass(frozen=True, eq=False)
class Tapped:
    """References of one attention call: query (batch, heads, n, dim), key (batch, kv_heads, n, dim), mask.

    `softcap`: the logits' bound, which they are bent to before the mask; None: they are not.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    scaling: float
    causal: bool
    softcap: float | None = None


class _Armed:
    """Stands in for an attention module's config during one call."""

    _attn_implementation = _NAME

    def __init__(self, config: Any, record: Callable[[Tapped], None]) -> None:
        self.config, self.record = config, record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


def arm(attention: Any, record: Callable[[Tapped], None]) -> None:
    """Let `record` see the next call of `attention`, once."""
    disarm(attention)
    attention.config = _Armed(attention.config, record)


def disarm(attention: Any) -> None:
    """Forget an `arm` whose call never came (an exception came first)."""
    if isinstance(attention.config, _Armed):
        attention.config = attention.config.config


def hand_over(attention: Any, tapped: Tapped) -> None:
    """Give an armed module's recorder what an earlier call of it was, in place of a call; does nothing if not armed."""
    if isinstance(armed := attention.config, _Armed):
        disarm(attention)
        armed.record(tapped)


def rows_at_once(tapped: Tapped) -> int:
    """How many rows `probabilities` is to be asked for at once: their logits are no more than all the queries."""
    batch, heads, n_keys = tapped.query.shape[0], tapped.query.shape[1], tapped.key.shape[2]
    return max(max(tapped.query.numel(), _FEW) // (batch * heads * n_keys), 1)


def probabilities(tapped: Tapped, rows: Tensor) -> Tensor:
    """Attention of the query positions `rows` (batch, r) over all keys: (batch, heads, r, n), float32.

    A row that sees no key at all is NaN.
    """
    query = take(tapped.query, rows[:, None, :, None], dim=2)
    batch, heads, n_rows, dim = query.shape
    kv_heads, n_keys = tapped.key.shape[1:3]
    grouped = query.reshape(batch, kv_heads, heads // kv_heads * n_rows, dim)
    logits = (grouped @ tapped.key.transpose(-1, -2)).view(batch, heads, n_rows, n_keys).mul_(tapped.scaling)
    return _hide(_capped(logits, tapped.softcap), tapped, rows).softmax(-1, dtype=torch.float32)


def last_probabilities(tapped: Tapped) -> Tensor:
    """Attention of the last query position over all keys, mean over heads: (batch, n), float32; in few kernels."""
    query, key = tapped.query[:, :, -1:], tapped.key
    batch, kv_heads, _, dim = key.shape
    if shared := query.shape[1] != kv_heads:  # query heads that share a key are its rows: the mask's row fits as it is
        query = query.reshape(batch, kv_heads, -1, dim)
        key = key if key.is_contiguous() else key.contiguous()  # einsum would write it out twice
    keys, queries = (3, 2) if shared else (2, 3)  # axes of the logits
    logits = torch.einsum("bknd,bkgd->bkgn" if shared else "bknd,bkgd->bkng", key, query)
    logits = _capped(logits.mul_(tapped.scaling), tapped.softcap)
    if tapped.mask is not None:  # without one nothing is hidden from the last row
        row = tapped.mask.bool()[:, None, None] if tapped.mask.ndim == 2 else tapped.mask[:, :, -1:]
        row = row if shared else row.mT
        logits = torch.where(row, logits, -torch.inf) if row.dtype == torch.bool else logits + row
    return logits.softmax(keys, dtype=torch.float32).mean((1, queries))


def _capped(logits: Tensor, softcap: float | None) -> Tensor:
    """In place, as Gemma 2 bends its logits."""
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _hide(logits: Tensor, tapped: Tapped, rows: Tensor) -> Tensor:
    """Apply the call's own mask: None, 2-D (flash), or 4-D of booleans (sdpa) or addends (eager)."""
    mask = tapped.mask
    if mask is not None and mask.ndim == 4:
        return _masked(logits, take(mask, rows[:, None, :, None], dim=2))
    if tapped.causal:
        keys = torch.arange(logits.shape[-1], device=logits.device)
        logits = logits.masked_fill_(keys > rows[:, None, :, None], -torch.inf)
    return logits if mask is None else _masked(logits, mask.bool()[:, None, None])


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    """Booleans hide where they are False, in place, anything else is added."""
    return logits.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask


def _tapped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    armed: _Armed = module.config
    disarm(module)
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    causal = bool(getattr(module, "is_causal", True))
    armed.record(Tapped(query, key, attention_mask, scaling, causal, kwargs.get("softcap")))
    eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager)
    attended: tuple[Tensor, Tensor | None] = attend(module, query, key, value, attention_mask, **kwargs)
    return attended


def calls_in(attention: nn.Module, run: Callable[[], Any]) -> list[Tapped]:
    """Every attention call that `attention` makes while `run` runs; nothing is attended, and what follows never runs.

    Some modules call once a picture, or once a window. The first module inside that is entered after a call ends it.
    """
    module: Any = attention
    calls: list[Tapped] = []

    def leave(*args: Any) -> None:
        if calls:
            raise _ReachedError

    hooks = [part.register_forward_pre_hook(leave) for part in attention.modules() if part is not attention]
    config, module.config = module.config, _Watched(module.config, calls.append)
    try:
        run()
    except _ReachedError:
        pass
    finally:
        module.config = config
        for hook in hooks:
            hook.remove()
    return calls


class Counted:
    """Adds up the FLOPs of the linear maps that run in a module."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.flops = module, 0

    def __enter__(self) -> "Counted":
        self._hooks = [
            part.register_forward_hook(self._count) for part in self.module.modules() if isinstance(part, nn.Linear)
        ]
        return self

    def __exit__(self, *raised: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, module: Any, args: Any, output: Tensor) -> None:
        self.flops += 2 * output.numel() * module.in_features


class _ReachedError(Exception):
    """The calls were made."""


class _Watched(_Armed):
    """Stands in for as many calls as come."""

    _attn_implementation = _LOOK


def _watched_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Nothing but a tensor of the right shape."""
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    causal = bool(getattr(module, "is_causal", True))
    module.config.record(Tapped(query, key, attention_mask, scaling, causal, kwargs.get("softcap")))
    return query.transpose(1, 2), None


AttentionInterface.register(_NAME, _tapped_attention)
AttentionInterface.register(_LOOK, _watched_attention)
