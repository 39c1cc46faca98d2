"""Greedy selection: one token after the other, as the scores of a scorer. What greedy scorers share."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer

Pick = Int[Tensor, "batch 1"]


def first_picks(scorer: Scorer, evidence: Evidence, n: int) -> Any:
    """The scores as the scorer gives them, of which nothing but the `n` best of each sample will be used.

    A scorer with a method (or a function with an attribute) `first(evidence, n)` then takes no more steps.
    """
    first = getattr(getattr(scorer, "func", scorer), "first", None)
    return scorer(evidence) if first is None else first(evidence, n)


def picking_order(
    left: Bool[Tensor, "batch vision"],
    value: Float[Tensor, "batch vision"],
    after: Callable[[int, Pick], Float[Tensor, "batch vision"]],
    n: int | None = None,
) -> Float[Tensor, "batch vision"]:
    """Minus the place, from 0, at which each token of `left` is picked: the one of highest value, the first of equals.

    `value` is that of the first step, `after(place, pick)` gives the next step's. All others rank alike behind the
    first `n`; None: one step per visual token. A sample of which nothing is left picks token 0, in vain.
    """
    gone, picks = ~left, list[Pick]()
    steps = value.shape[1] if n is None else min(n, value.shape[1])
    for place in range(steps):
        if picks:
            value = after(place - 1, picks[-1])
        picks.append(value.masked_fill(gone, -torch.inf).argmax(-1, keepdim=True))
        gone.scatter_(1, picks[-1], True)
    scores = torch.zeros_like(value).masked_fill_(left, -steps)
    places = -torch.arange(steps, dtype=scores.dtype, device=scores.device).expand(len(scores), -1)
    return scores.scatter_reduce_(1, torch.cat(picks, 1), places, "amax") if picks else scores


def row_at(matrix: Shaped[Tensor, "batch n m"], pick: Pick) -> Shaped[Tensor, "batch m"]:
    """Each sample's row at its pick."""
    return matrix.gather(1, pick[..., None].expand(-1, -1, matrix.shape[2]))[:, 0]


def extent(
    values: Float[Tensor, "batch vision"], real: Bool[Tensor, "batch vision"]
) -> tuple[Float[Tensor, "batch 1"], Float[Tensor, "batch 1"]]:
    """The least of each sample's real values, and how far the largest is from it; 0 and 0 where none is real."""
    low = values.masked_fill(~real, torch.inf).amin(-1, keepdim=True)
    high = values.masked_fill(~real, -torch.inf).amax(-1, keepdim=True)
    some = real.any(-1, keepdim=True)
    return torch.where(some, low, 0.0), torch.where(some, high - low, 0.0)
