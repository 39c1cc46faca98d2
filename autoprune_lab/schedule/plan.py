"""Plan: how many of a sample's visual tokens stay as they are, and how many are made of the rest, layer by layer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Tokens = Int[np.ndarray, "*batch layers"]
Counts = Int[np.ndarray, "..."]
Split = Callable[[Counts, Counts], tuple[Counts, Counts]]
"""(allowed, present) -> (kept, merged): at most `allowed` <= `present` together, `merged` at most what is dropped."""

Splits = Split | Sequence[Split]
"""One for all cuts of a sample, or one for each cut in turn, of which the last is for all later ones too."""


def keep_all(allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
    """The split of a recovery that forgets what is dropped: all that are allowed are kept."""
    return allowed, np.zeros_like(allowed)


class Plan(NamedTuple):
    """Visual tokens entering each layer: the `kept` best scored of those present, and `merged` filled from the rest."""

    kept: Tokens
    merged: Tokens

    @property
    def tokens(self) -> Tokens:
        """Both together: what enters the layer, and costs."""
        return np.asarray(self.kept + self.merged)

    @classmethod
    def within(cls, tokens: Tokens, n_vision: Int[np.ndarray, "batch"], split: Splits) -> "Plan":
        """The plan of at most `tokens` (batch, layers), which a recovery splits layer by layer.

        A sample is cut where fewer tokens are kept than were present.

        Raises ValueError for a split that passes what is allowed or makes more tokens than are dropped.
        """
        if split is keep_all:
            kept = np.minimum.accumulate(np.minimum(tokens, n_vision[:, None]), axis=1)
            return cls(kept, np.zeros_like(kept))
        kept, merged, present = np.empty_like(tokens), np.empty_like(tokens), n_vision
        splits, n_cuts = [split] if callable(split) else split, np.zeros_like(n_vision)
        for layer in range(tokens.shape[1]):
            allowed = np.minimum(tokens[:, layer], present)
            kept[:, layer], merged[:, layer] = _in_turn(splits, n_cuts, allowed, present)
            _check(kept[:, layer], merged[:, layer], allowed, present)
            n_cuts = n_cuts + (kept[:, layer] < present)
            present = kept[:, layer] + merged[:, layer]
        return cls(kept, merged)


def _in_turn(splits: Sequence[Split], n_cuts: Counts, allowed: Counts, present: Counts) -> tuple[Counts, Counts]:
    """What each sample's split says, after `n_cuts` cuts of it."""
    if len(splits) == 1:
        return splits[0](allowed, present)
    turn, sample = np.minimum(n_cuts, len(splits) - 1), np.arange(len(n_cuts))
    kept, merged = zip(*(split(allowed, present) for split in splits), strict=True)
    return np.stack(kept)[turn, sample], np.stack(merged)[turn, sample]


def _check(kept: Counts, merged: Counts, allowed: Counts, present: Counts) -> None:
    wrong = (np.minimum(kept, merged) < 0) | (kept + merged > allowed)  # <= present: no more is made than dropped
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"the recovery splits {allowed[i]} of {present[i]} tokens into {kept[i]} kept and {merged[i]} merged: both "
            "must be >= 0, together at most what is allowed, and merged at most what is dropped"
        )
