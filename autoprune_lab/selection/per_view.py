"""A budget per view: a scorer that shares the kept tokens out among a sample's views."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer
from autoprune_lab.selection.scorers import last_token_attention


def per_view(
    evidence: Evidence,
    scorer: Scorer = last_token_attention,
    shares: Sequence[float | int] = (1.0, 2.0, 1.0),
    tokens_per_view: int = 64,
) -> Float[Tensor, "batch vision"]:
    """Scores <= 0 whose top n are shared out among the views in proportion to `shares`, for every n.

    Within a view `scorer` decides. Views are runs of `tokens_per_view` tokens, one share >= 0 each; the division is
    Sainte-Lague's: the r-th best token of a view with share s ranks at (r + 1/2) / s. A view that runs out of tokens
    leaves its part to the others; one of share 0 comes last. ValueError for a sample with more tokens than views hold.

    Source: arXiv 2508.13305 (Prune2Drive), a pruning ratio for each view.
    Differs: there the views' ratios are fixed and their tokens are chosen by farthest-point distance; here the ratios
    are relative, `Budget` sets the size, and any scorer chooses.
    """
    if not shares or min(shares) < 0 or max(shares) <= 0 or tokens_per_view < 1:
        raise ValueError(f"shares={list(shares)}, tokens_per_view={tokens_per_view}: need shares >= 0, one of them > 0")
    view = evidence.index.clamp(min=0) // tokens_per_view
    if bool((view >= len(shares)).any()):
        held = len(shares) * tokens_per_view
        raise ValueError(f"a sample has more than {held} visual tokens, {len(shares)} views of {tokens_per_view}")
    scores = scorer(evidence).double().masked_fill(~evidence.vision_mask, -torch.inf)
    rank = rank_within(scores, view)
    share = torch.tensor(shares, dtype=torch.double, device=view.device).clamp(min=1e-6 * max(shares))[view]
    return -(rank + 0.5) / share


def rank_within(scores: Tensor, view: Tensor) -> Tensor:
    """How many tokens of the same view come before each token: higher scores, or equal ones at a lower index."""
    by_score = scores.argsort(dim=-1, descending=True, stable=True)
    order = by_score.gather(1, view.gather(1, by_score).argsort(dim=-1, stable=True))
    place = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    sorted_view = view.gather(1, order)
    first = torch.searchsorted(sorted_view, sorted_view)
    return torch.empty_like(order).scatter_(1, order, place - first)
