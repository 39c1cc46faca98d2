"""What decoder layers are told about positions and visibility after a cut."""

from typing import Any

import torch
from torch import Tensor

from autoprune_lab.decoder.layout import Stage


class PrefillView:
    """Gathers a layer's own keyword arguments down to a stage; each distinct tensor once per stage."""

    def __init__(self, stage: Stage, implementation: str) -> None:
        self.stage, self.implementation = stage, implementation
        self._gathered: dict[int, tuple[Any, Any]] = {}

    def narrow(self, kwargs: dict[str, Any], hidden: Tensor) -> dict[str, Any]:
        """`kwargs` as transformers built them for the full prompt -> as the stage needs them.

        `position_ids` go: layers need the rotary embeddings only, and flash attention takes gaps for packing.
        """
        mask, rotary = kwargs.get("attention_mask"), kwargs.get("position_embeddings")
        return kwargs | {
            "attention_mask": self._once(mask, lambda: self._mask(mask, hidden)),
            "position_embeddings": self._once(rotary, lambda: narrow_rotary(rotary, self.stage)),
            "position_ids": None,
        }

    def _once(self, source: Any, gather: Any) -> Any:
        if id(source) not in self._gathered:
            self._gathered[id(source)] = (source, gather())  # holding the source keeps its id its own
        return self._gathered[id(source)][1]

    def _mask(self, mask: Tensor | None, hidden: Tensor) -> Tensor | None:
        if mask is None:
            return causal_mask(self.stage, self.implementation, hidden.dtype) if self.stage.ragged else None
        return narrow_mask(mask, self.stage)


def narrow_rotary(rotary: tuple[Tensor, Tensor], stage: Stage) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (1 or batch, positions, dim) -> the rows of the stage's tokens: original positions."""
    cos, sin = (torch.take_along_dim(part, stage.index[..., None], dim=1) for part in rotary)
    return cos, sin


def narrow_mask(mask: Tensor, stage: Stage) -> Tensor:
    """Rows and columns of the mask transformers built, padding hidden: any pattern survives."""
    if mask.ndim == 2:
        return mask.gather(1, stage.index) * stage.valid
    mask = torch.take_along_dim(mask, stage.index[:, None, :, None], dim=2)
    mask = torch.take_along_dim(mask, stage.index[:, None, None, :], dim=3)
    hidden = ~visible_keys(stage)[:, None, None]
    return mask.masked_fill(hidden, False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min)


def causal_mask(stage: Stage, implementation: str, dtype: torch.dtype) -> Tensor:
    """The mask of a stage with padding, where transformers needed none for the full prompt."""
    n = stage.index.shape[1]
    return _for_backend(visible_keys(stage), n, implementation, dtype)


def decode_mask(
    stage: Stage, n_past: int, n_new: int, since: Tensor | None, implementation: str, dtype: torch.dtype
) -> Tensor | None:
    """The mask of `n_new` tokens over a layer's own cache: the stage's slots, then all since the prompt.

    `since` (batch, n_past + n_new - slots) is False at padding; None: no padding there.
    """
    if n_new == 1 and since is None and not stage.ragged:
        return None
    visible = visible_keys(stage)
    if since is None:
        since = visible.new_ones(len(visible), n_past + n_new - visible.shape[1])
    return _for_backend(torch.cat([visible, since], dim=1), n_new, implementation, dtype)


def visible_keys(stage: Stage) -> Tensor:
    """Slots that may be attended to, (batch, slots)."""
    return stage.valid


def _for_backend(visible: Tensor, n_new: int, implementation: str, dtype: torch.dtype) -> Tensor:
    """Causal visibility of the keys (batch, n) to the last `n_new` of them, in the form a backend takes."""
    if "flash" in implementation:
        return visible
    n = visible.shape[1]
    keys = torch.arange(n, device=visible.device)
    allowed = visible[:, None, None] & (keys <= keys[n - n_new :, None])
    if implementation != "eager":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
