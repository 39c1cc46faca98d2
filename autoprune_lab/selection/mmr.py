"""Maximal marginal relevance: important tokens that are unlike those picked before."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer, TowerLayer, tower_layers_of
from autoprune_lab.selection.diversity import visual
from autoprune_lab.selection.greedy import Pick, extent, picking_order, row_at
from autoprune_lab.selection.scorers import cls_attention

_EPS, _NORM_EPS = 1e-6, 1e-8  # the official code's


@dataclass(frozen=True)
class Mmr:
    """Minus the place at which greedy selection picks a token, by importance and by what is picked already.

    The most important token is first; each later one has the highest balance * importance - (1 - balance) * highest
    cosine to any picked one, of the hidden states. `importance` scores are scaled to [0, 1] in each sample; equal ones
    are all 0. Of each `at_once` picks, the first ones too, none sees the others.

    Source: arXiv 2602.13315 (IDPruner), by its selection in github.com/Tencent/AngelSlim at 67394ce.
    Differs: IDPruner's importance is a trained selector's, here it is any scorer's; `Budget` says how many stay.
    """

    importance: Scorer = cls_attention
    balance: float = 0.5
    at_once: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for a balance outside [0, 1], or less than one pick at once."""
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance={self.balance} is outside [0, 1]: 1 goes by importance alone, 0 by cosine alone")
        if self.at_once < 1:
            raise ValueError(f"at_once={self.at_once} must be >= 1: so many tokens are picked in each step")

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """Those of `importance`."""
        return tower_layers_of(self.importance)

    def scaled(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """Importance in [0, 1]; arbitrary at padding."""
        scores = self.importance(evidence).float()
        low, span = extent(scores, evidence.vision_mask)
        return (scores - low) / (span + _EPS)

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """One step per visual token, each linear in their number."""
        return self.first(evidence)

    def first(self, evidence: Evidence, n: int | None = None) -> Float[Tensor, "batch vision"]:
        """The first `n` places, see `first_picks`."""
        states, importance = visual(evidence), self.scaled(evidence)
        unit = states / (states.norm(dim=-1, keepdim=True) + _NORM_EPS)
        cosine = unit @ unit.mT
        nearest, value = torch.full_like(importance, -torch.inf), importance

        def after(place: int, pick: Pick) -> Tensor:
            nonlocal nearest, value
            nearest = nearest.maximum(row_at(cosine, pick))
            if (place + 1) % self.at_once == 0:
                value = self.balance * importance - (1 - self.balance) * nearest
            return value

        return picking_order(evidence.vision_mask, importance, after, n)
