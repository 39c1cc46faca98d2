"""Deepstack: decoders that add image features again after some layers (Qwen3-VL), told where the tokens are now."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor, nn

from autoprune_lab.decoder.layout import Stage
from autoprune_lab.decoder.shadow import shadowed

_NAME = "_deepstack_process"
_ARGUMENTS = ["hidden_states", "visual_pos_masks", "visual_embeds"]


def adds_features(decoder: nn.Module) -> bool:
    """Does this decoder add image features between its layers?"""
    return hasattr(decoder, _NAME)


def is_known(decoder: nn.Module) -> bool:
    """Does it do so by the arguments that are re-indexed here?"""
    return list(inspect.signature(getattr(decoder, _NAME)).parameters) == _ARGUMENTS


def following(decoder: nn.Module, stage: Callable[[], Stage | None]) -> AbstractContextManager[None]:
    """Inside the block what `decoder` adds follows `stage`."""
    add: Callable[..., Tensor] = getattr(decoder, _NAME)

    @functools.wraps(add)
    def followed(hidden_states: Tensor, visual_pos_masks: Tensor, visual_embeds: Tensor) -> Tensor:
        now = stage()
        if now is not None:
            visual_pos_masks, visual_embeds = narrow_features(now, visual_pos_masks, visual_embeds)
        return add(hidden_states, visual_pos_masks, visual_embeds)

    return shadowed(decoder, _NAME, followed)


def narrow_features(stage: Stage, mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (batch, positions) and features (visual tokens of the batch, width) of the full prompt -> of the stage."""
    here = mask.gather(1, stage.index) & stage.valid
    row = (mask.flatten().cumsum(0) - 1).view_as(mask).gather(1, stage.index)
    return here, features[row[here]]
