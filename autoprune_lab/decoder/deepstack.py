"""Deepstack: decoders that add image features again between layers, told where the tokens are now.

Qwen3-VL's add them in a method of their own. Granite 4 Vision's are handed a mask and a table of features by layer, and
add them inline: there the mask and the table are stood in for, and say what holds when they are read.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.shadow import shadowed
from autoprune_lab.decoder.signatures import names_of

_NAME = "_deepstack_process"
_ARGUMENTS = ["hidden_states", "visual_pos_masks", "visual_embeds"]
_MASK, _TABLE = "vision_mask", "deepstack_features"

Now = Callable[[], Stage | None]


def adds_features(decoder: nn.Module) -> bool:
    """Does this decoder add image features between its layers?"""
    return hasattr(decoder, _NAME) or any("deepstack" in name for name in names_of(decoder))


def is_known(decoder: nn.Module) -> bool:
    """Does it do so by the arguments that are re-indexed here?"""
    if hasattr(decoder, _NAME):
        return list(inspect.signature(getattr(decoder, _NAME)).parameters) == _ARGUMENTS
    return {_MASK, _TABLE} <= set(names_of(decoder))


@contextmanager
def following(decoder: nn.Module, stage: Now) -> Iterator[None]:
    """Inside the block what `decoder` adds follows `stage`."""
    if not hasattr(decoder, _NAME):
        hook = decoder.register_forward_pre_hook(functools.partial(_stand_in, stage), with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        return
    add: Callable[..., Tensor] = getattr(decoder, _NAME)

    @functools.wraps(add)
    def followed(hidden_states: Tensor, visual_pos_masks: Tensor, visual_embeds: Tensor) -> Tensor:
        now = stage()
        if now is not None:
            visual_pos_masks, visual_embeds = narrow_features(now, visual_pos_masks, visual_embeds)
        return add(hidden_states, visual_pos_masks, visual_embeds)

    with shadowed(decoder, _NAME, followed):
        yield


def narrow_features(stage: Stage, mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (batch, positions) and features (visual tokens of the batch, width) of the full prompt -> of the stage."""
    here = mask.gather(1, stage.index) & stage.valid
    row = (mask.flatten().cumsum(0) - 1).view_as(mask).gather(1, stage.index)
    return here, features[row[here]]


def _stand_in(stage: Now, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask, table = kwargs.get(_MASK), kwargs.get(_TABLE)
    if mask is None or table is None:
        return args, kwargs
    return args, kwargs | {_MASK: _Mask(mask, stage), _TABLE: _Table(mask, table, stage)}


class _Mask:
    """`vision_mask` (batch, positions, 1), read by `.to`."""

    def __init__(self, mask: Tensor, stage: Now) -> None:
        self.mask, self.stage = mask, stage

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The mask of the tokens in the layer that comes."""
        now, mask = self.stage(), self.mask
        if now is not None and now.cut:
            mask = (mask[..., 0].gather(1, now.index) & now.valid)[..., None]
        return mask.to(*args, **kwargs)


class _Table(Mapping[int, Tensor]):
    """`deepstack_features`: layer -> (visual tokens of the batch, width), read at the layer that comes."""

    def __init__(self, mask: Tensor, table: Mapping[int, Tensor], stage: Now) -> None:
        self.mask, self.table, self.stage = mask, table, stage

    def __getitem__(self, layer: int) -> Tensor:
        now = self.stage()
        features = self.table[layer]
        return features if now is None or not now.cut else narrow_features(now, self.mask[..., 0], features)[1]

    def __iter__(self) -> Iterator[int]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)
