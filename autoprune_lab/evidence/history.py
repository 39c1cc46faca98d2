"""History: what earlier decisions of an episode looked at. It is the episode's: it goes in and comes out again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from math import floor

import numpy as np

History = tuple[np.ndarray, ...]
"""Of each earlier decision, the newest first: the attention that its answer paid each visual token, (vision,).

The mean over heads and over the rows that the answer's tokens were read off, in [0, 1]; 0 where a token had gone.
"""


@dataclass(frozen=True)
class Recall:
    """What a part of a pruner wants to know of earlier decisions: the last `window` of them, as one layer saw them.

    `layer` of the decoder: from 0, or a part of its depth in [0, 1), rounded down. In a decoder that mixes in layers
    without attention it is the nearest one below that has some.
    """

    layer: int | float = 0.47
    window: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for a layer below 0, a part of 1 or more, or less than one decision."""
        if self.layer < 0 or (isinstance(self.layer, float) and self.layer >= 1):
            raise ValueError(f"layer={self.layer} of a history must be a layer >= 0, or a part of the depth in [0, 1)")
        if self.window < 1:
            raise ValueError(f"window={self.window} must be >= 1: so many earlier decisions are remembered")

    def number(self, n_layers: int) -> int:
        """The layer in a decoder of so many; ValueError where it has no such layer."""
        number = floor(self.layer * n_layers) if isinstance(self.layer, float) else self.layer
        if number >= n_layers:
            raise ValueError(f"layer={self.layer} of a history is none of the decoder's {n_layers}: give 0 to 1")
        return number


def recall_of(parts: Iterable[object]) -> Recall | None:
    """What parts of a pruner, and whatever they are made of, want to know; None: nothing.

    Raises ValueError for two layers: a history is of one.
    """
    found = [recall for part in parts for recall in _recalls(part)]
    if not found:
        return None
    if len(layers := {recall.layer for recall in found}) > 1:
        raise ValueError(f"parts of one pruner read histories of layers {sorted(layers)}: give all the same `layer`")
    return Recall(found[0].layer, max(recall.window for recall in found))


def _recalls(part: object) -> Iterator[Recall]:
    own = getattr(part, "recall", None)
    if isinstance(own, Recall):
        yield own
    if isinstance(part, partial):
        inner = [part.func, *part.args, *part.keywords.values()]
    elif is_dataclass(part) and not isinstance(part, type):
        inner = [getattr(part, field.name) for field in fields(part)]
    else:
        inner = list(part) if isinstance(part, list | tuple) else []
    for one in inner:
        yield from _recalls(one)
