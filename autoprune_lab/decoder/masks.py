"""What decoder layers are told about visibility after a cut. Original positions decide it, whatever the rotary does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from autoprune_lab.decoder.layout import Stage, take


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys of one layer, (batch, n) each: which are real, and where each stood before any pruning."""

    valid: Tensor
    index: Tensor

    def held(self, n: int, n_first: int = 0) -> "Keys":
        """The `n` that a cache still holds: the first `n_first`, which it never lets go, and the last."""
        last = self.valid.shape[1] - max(n - n_first, 0)
        if not n_first:
            return Keys(self.valid[:, last:], self.index[:, last:])
        valid, index = (torch.cat([part[:, :n_first], part[:, last:]], dim=1) for part in (self.valid, self.index))
        return Keys(valid, index)


@dataclass(frozen=True, eq=False)
class Planes:
    """A mask of four axes, its samples and heads in one, (planes, n, keys): `which` is whose, (batch, heads, 1, 1)."""

    flat: Tensor
    which: Tensor

    @classmethod
    def of(cls, mask: Tensor, samples: Tensor) -> "Planes":
        """A mask of each sample or of all of them, of each head or of all of them; `samples` (batch, 1) counts them."""
        size, n_heads = mask.shape[:2]
        alone = (size, n_heads) == (len(samples), 1)
        which = samples if alone else torch.arange(size * n_heads, device=mask.device)
        return cls(mask.flatten(0, 1), which.view(size, n_heads, 1, 1))


def narrow_mask(mask: Tensor, stage: Stage, samples: Tensor, planes: Planes | None = None) -> Tensor:
    """Rows and columns of the mask transformers built, padding hidden: any pattern survives.

    `samples` (batch, 1) counts the samples; `planes` of the mask, where they are known. A mask of each sample hides
    the full prompt's padding already. The columns behind the prompt, of a static cache's room, stay.
    """
    if mask.ndim == 2:
        return mask.gather(1, stage.index) * stage.valid
    n, n_keys = stage.others.shape[1], mask.shape[3]
    room = torch.arange(n, n_keys, device=mask.device).expand(len(stage.index), -1) if n_keys > n else None
    columns = stage.index if room is None else torch.cat([stage.index, room], dim=1)
    batch, size, planes = len(samples), len(mask), planes or Planes.of(mask, samples)
    rows, columns = stage.index.view(batch, 1, -1, 1), columns.view(batch, 1, 1, -1)
    mask = planes.flat[planes.which, rows, columns]
    if not stage.ragged or (stage.as_before and size == batch):
        return mask
    visible = visible_keys(stage) if room is None else pad(visible_keys(stage), (0, n_keys - n), value=True)
    return torch.where(visible.view(batch, 1, 1, -1), mask, hiding(mask))


def narrow_keys(mask: Tensor, stage: Stage) -> Tensor:
    """Columns of a 4-D mask, over the prompt before pruning and tokens behind it: of the former the stage's stay.

    Rows are tokens that are no part of the prompt.
    """
    n, n_keys = stage.others.shape[1], mask.shape[3]
    behind = torch.arange(n, n_keys, device=mask.device).expand(len(stage.index), -1)
    mask = take(mask, torch.cat([stage.index, behind], dim=1)[:, None, None], dim=3)
    if not stage.ragged:
        return mask
    visible = pad(visible_keys(stage), (0, n_keys - n), value=True)
    return torch.where(visible[:, None, None], mask, hiding(mask))


def hiding(mask: Tensor) -> bool | float:
    """What a mask of this type holds where a key may not be seen."""
    return False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min


def prompt_keys(stage: Stage) -> Keys:
    """The keys of a pruned prompt."""
    return Keys(visible_keys(stage), stage.index)


def keys_since(stage: Stage, width: int, since: Tensor) -> Keys:
    """The keys of a pruned prompt, `width` slots wide before, and of all tokens `since`: (batch, n), False at padding.

    A sliding window goes by the original index, not by the place in the shorter cache.
    """
    index = width + torch.arange(since.shape[1], device=since.device).expand_as(since)
    return Keys(torch.cat([visible_keys(stage), since], dim=1), torch.cat([original_index(stage), index], dim=1))


def causal_mask(
    keys: Keys,
    n_new: int,
    window: int | None,
    implementation: str,
    dtype: torch.dtype,
    chunk: Tensor | None = None,
    n_first: int = 0,
) -> Tensor:
    """What the last `n_new` of the keys may see of all, no further back than `window`, in the form a backend takes.

    `chunk` (batch, n) numbers the stretch of the prompt that each key stands in, where nothing is seen across them.
    The first `n_first` keys are seen from any distance.
    """
    if "flash" in implementation:
        return keys.valid
    place = torch.arange(keys.valid.shape[1], device=keys.valid.device)
    allowed = keys.valid[:, None, None] & (place <= place[-n_new:, None])
    if window is not None:
        near = keys.index[:, None, -n_new:, None] - keys.index[:, None, None] < window
        allowed &= near | (place < n_first) if n_first else near
    if chunk is not None:
        allowed &= chunk[:, None, -n_new:, None] == chunk[:, None, None]
    return _in_form(allowed, implementation, dtype)


def step_masks(stages: Sequence[Stage], since: Tensor, implementation: str, dtype: torch.dtype) -> Sequence[Tensor]:
    """What one new token may see in the layers of each stage: `causal_mask` of one row, without a window.

    A few kernels for all stages: the masks lie side by side.
    """
    visible = torch.cat([part for stage in stages for part in (visible_keys(stage), since)], dim=-1)
    joined = visible if "flash" in implementation else _in_form(visible[:, None, None], implementation, dtype)
    return torch.split(joined, [stage.index.shape[1] + since.shape[1] for stage in stages], dim=-1)


def visible_keys(stage: Stage) -> Tensor:
    """Slots that may be attended to, (batch, slots)."""
    return stage.valid


def original_index(stage: Stage) -> Tensor:
    """Where each slot stood before any pruning, (batch, slots)."""
    return stage.index


def _in_form(allowed: Tensor, implementation: str, dtype: torch.dtype) -> Tensor:
    """Booleans, or what eager attention adds."""
    if implementation != "eager":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
