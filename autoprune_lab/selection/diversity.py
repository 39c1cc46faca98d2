"""Scorers that keep visual tokens unlike each other: `scoring`'s type and rules, the text ignored.

Tokens are compared by the cosine of their hidden states, in float32. That work is not in `scoring_flops`: it is
2 * vision * hidden FLOPs times the tokens compared with, all of them or the pivots.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.greedy import Pick, picking_order, row_at

_MANY = 2**22  # distances: 16 MiB


def max_min_diversity(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Minus the place, from 0, at which greedy max-min selection picks a token.

    The first pick is the token furthest from its nearest neighbour, each later one the token furthest from its
    nearest picked one; distance is 1 - cosine. No pick depends on how many follow, so the top n are DivPrune's set
    for every n.

    Source: arXiv 2503.02175 (DivPrune); the first pick as in its official code.
    Differs: DivPrune compares the projected features, before layer 0; the official code may pick one of several
    equal tokens twice, here none is.
    """
    return _farthest(evidence)


def _farthest(evidence: Evidence, n: int | None = None) -> Float[Tensor, "batch vision"]:
    """The first `n` places, see `first_picks`."""
    real, batch = evidence.vision_mask, len(evidence.vision_mask)
    if batch * real.shape[1] ** 2 > max(evidence.hidden.numel(), _MANY):
        return _farthest_by_rows(normalize(visual(evidence), dim=-1), real, n)
    distance = distances(evidence)
    return farthest_first(distance.masked_fill_(~real[..., None], torch.inf) if evidence.padded else distance, real, n)


def _farthest_by_rows(
    unit: Float[Tensor, "batch vision hidden"], real: Bool[Tensor, "batch vision"], n: int | None
) -> Float[Tensor, "batch vision"]:
    """The same; of the distances, tokens squared, no more are held at a time than the hidden states are."""

    def to_real(some: Float[Tensor, "batch part hidden"]) -> Float[Tensor, "batch part vision"]:
        distance: Tensor = (some @ unit.mT).neg_().add_(1)
        return distance.masked_fill_(~real[:, None], torch.inf)

    def nearest_other(start: int, some: Float[Tensor, "batch part hidden"]) -> Float[Tensor, "batch part"]:
        distance = to_real(some)
        distance.diagonal(offset=start, dim1=1, dim2=2).fill_(torch.inf)
        return distance.amin(-1)

    size = max(unit.shape[2], _MANY // real.numel())
    first = torch.cat([nearest_other(i, unit[:, i : i + size]) for i in range(0, unit.shape[1], size)], dim=1)
    nearest = torch.full_like(first, torch.inf)  # to what is picked

    def after(_: int, pick: Pick) -> Tensor:
        return torch.minimum(nearest, to_real(row_at(unit, pick)[:, None])[:, 0], out=nearest)

    return picking_order(real, first, after, n)


def distances(evidence: Evidence) -> Float[Tensor, "batch vision vision"]:
    """1 - cosine of hidden states."""
    unit = normalize(visual(evidence), dim=-1)
    return (unit @ unit.mT).neg_().add_(1)


def farthest_first(
    distance: Float[Tensor, "batch vision vision"], among: Bool[Tensor, "batch vision"], n: int | None = None
) -> Float[Tensor, "batch vision"]:
    """See `max_min_diversity`, of the tokens `among` only; the first `n` places, see `first_picks`.

    `distance` from others is infinite. It is used up: all is done in place, for it is as large as tokens squared.
    """
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    first = distance.amin(1)
    nearest = torch.full_like(first, torch.inf)  # to what is picked

    def after(_: int, pick: Pick) -> Tensor:
        nonlocal nearest
        nearest = nearest.minimum(row_at(distance, pick))
        return nearest

    return picking_order(among, first, after, n)


max_min_diversity.first = _farthest  # type: ignore[attr-defined]


def non_duplication(evidence: Evidence, pivots: int = 8) -> Float[Tensor, "batch vision"]:
    """1 - the highest cosine to any pivot, in [0, 2]; the pivots, the tokens of largest L2 norm, score 3 + norm.

    So the pivots come first, largest first, then the tokens least like any of them.

    Source: arXiv 2502.11494 (DART).
    Differs: DART takes 4 visual and 4 text pivots by the L1 norm of their keys, and for each pivot in turn an equal
    share of the tokens least like it, compared after the final norm; here pivots are visual and ranked with the
    hidden states, and a token is judged by the pivot it is most like.
    """
    if pivots < 1:
        raise ValueError(f"pivots={pivots} must be >= 1: the other tokens are compared with them")
    hidden = visual(evidence)
    norm, unit = hidden.norm(dim=-1), normalize(hidden, dim=-1)
    chosen = norm.argsort(descending=True, stable=True)[:, :pivots]
    cosine = unit @ unit.take_along_dim(chosen[..., None], 1).mT
    return (1 - cosine.amax(-1)).scatter(1, chosen, 3 + norm.gather(1, chosen))


def visual(evidence: Evidence) -> Float[Tensor, "batch vision hidden"]:
    """Hidden states in float32, 0 at padding: behind every real token in norm, and never NaN. Not to be written on."""
    hidden = evidence.hidden.float()
    return hidden.masked_fill(~evidence.vision_mask[..., None], 0) if evidence.padded else hidden
