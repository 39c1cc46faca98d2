"""Layers that attend to keys and values of an earlier layer, of which some tokens may have gone in between.

Such a layer (Gemma 3n, Gemma 4's small ones) makes queries alone; keys and values come from the last layer of its kind
that made some. A prefill gives it those of the tokens that it still has. While decoding they grow by a token a step, so
what it must not see is hidden there, not left out: attention costs as much as in the layer that they come from.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Stage, take
from autoprune_lab.decoder.signatures import names_of

SLICED = "logits_to_keep"
"""How many of a prompt's last tokens need logits: where layers share, a decoder that is told computes these alone."""


def shared_by(anatomy: Anatomy, layer: int, shared: Any) -> tuple[Any, tuple[Tensor, Tensor]]:
    """Under what name, and what `layer` attends to: keys and values, (batch, kv_heads, n, dim) each."""
    kind = anatomy.kind(layer)
    key = kind if kind in shared else anatomy.source(layer)
    return key, shared[key]


def narrow_shared(key: Any, pair: tuple[Tensor, Tensor], shared: Any, before: Stage, stage: Stage) -> Any:
    """What a layer of `stage` is handed instead of `shared`: the `pair` under `key`, made by a layer of `before`."""
    slots = before.slots_of(stage)[:, None, :, None]
    return type(shared)({key: tuple(take(part, slots, dim=2) for part in pair)})


def seen(anatomy: Anatomy, stages: Sequence[Stage]) -> list[Stage]:
    """What each layer sees of the keys that it attends to, which may hold more than its own stage."""
    made: dict[tuple[Stage, Stage], Stage] = {}
    for layer, stage in enumerate(stages):
        before = stages[anatomy.source(layer)]
        if (before, stage) not in made:
            made[before, stage] = stage if before is stage else before.hiding_but(stage)
    return [made[stages[anatomy.source(layer)], stage] for layer, stage in enumerate(stages)]


def computes_last_only(anatomy: Anatomy) -> bool:
    """May this decoder compute the layers that share for a prompt's last tokens alone?"""
    return anatomy.shares and SLICED in names_of(anatomy.decoder)
