"""Plan: how many of a sample's visual tokens stay as they are, and how many are made of the rest, layer by layer."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Tokens = Int[np.ndarray, "*batch layers"]
Merging = Callable[[Int[np.ndarray, "..."]], Int[np.ndarray, "..."]]
"""How many tokens a recovery makes of so many dropped ones; never more than those."""


class Plan(NamedTuple):
    """Visual tokens entering each layer: the `kept` best scored of those present, and `merged` made of the rest."""

    kept: Tokens
    merged: Tokens

    @property
    def tokens(self) -> Tokens:
        """Both together: what enters the layer, and costs."""
        return np.asarray(self.kept + self.merged)

    @classmethod
    def within(cls, tokens: Tokens, n_vision: Int[np.ndarray, "batch"], merging: Merging | None) -> "Plan":
        """The plan that keeps most among those of at most `tokens` (batch, layers); None: the dropped are forgotten.

        Where even that many are too few for all that merging would make, it makes fewer.
        """
        if merging is None:
            return cls(tokens, np.zeros_like(tokens))
        kept, merged, present = np.empty_like(tokens), np.empty_like(tokens), n_vision
        for layer in range(tokens.shape[1]):
            kept[:, layer], merged[:, layer] = _split(np.minimum(tokens[:, layer], present), present, merging)
            present = kept[:, layer] + merged[:, layer]
        return cls(kept, merged)


def _split(allowed: Tokens, present: Tokens, merging: Merging) -> tuple[Tokens, Tokens]:
    """Kept and merged, at most `allowed` together: the sum never grows where fewer are kept: go down until it fits."""
    kept, fewer = allowed, np.maximum(allowed - merging(present - allowed), 0)
    while (fewer < kept).any():
        kept, fewer = fewer, np.maximum(allowed - merging(present - fewer), 0)
    return kept, np.minimum(merging(present - kept), allowed - kept)
