"""By cut: what becomes of the tokens that go is another thing at each cut of a sample."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, TowerLayer, tower_layers_of
from autoprune_lab.evidence.transfer import upload
from autoprune_lab.schedule.plan import Split
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.pool_dropped import PoolDropped
from autoprune_lab.selection.recovery import Recovery, Survivors, drop, on_host, planned, split_of

Operator = Literal["prune", "merge", "pool"]


@dataclass(frozen=True)
class ByCut:
    """Forget, merge or pool what goes, another operator at each successive cut of a sample.

    `operators`: the first works where a sample first loses tokens to its plan, and so on; the last works at all later
    cuts too. `prune` forgets, `merge` and `pool` are the recoveries of these names. Samples of a batch are counted each
    by itself. A cut before the probe (`Sizing.opens`) forgets, and does not count. A budget fills a stage token by
    token, so that it may fall once more within it: `Pruner.max_cuts` makes one cut of each stage.

    Order: as the recovery whose turn it is; `PoolDropped` spaces its targets over the sequence.
    """

    operators: Sequence[Operator] = ("pool", "merge", "prune")
    merge: Recovery = field(default_factory=ClusterMerge)
    pool: Recovery = field(default_factory=PoolDropped)

    def __post_init__(self) -> None:
        """Take any sequence; raise ValueError for none, an unknown operator, or a recovery that goes by cuts itself."""
        object.__setattr__(self, "operators", tuple(self.operators))
        check_operators(self.operators)
        for name in ("merge", "pool"):
            if hasattr(getattr(self, name), "splits"):
                raise ValueError(f"{name}={getattr(self, name)} goes by cuts itself: give one that is the same at each")

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """Layers of the vision tower that the recoveries of these operators name."""
        at_work = dict.fromkeys(self.operators)
        return tuple(layer for operator in at_work for layer in tower_layers_of(self._recovery(operator)))

    @property
    def splits(self) -> tuple[Split, ...]:
        """How the operator of each cut splits what is allowed."""
        return tuple(split_of(self._recovery(operator)) for operator in self.operators)

    def __call__(
        self,
        evidence: Evidence,
        scores: Float[Tensor, "batch vision"],
        kept: Int[Tensor, "batch"],
        merged: Int[Tensor, "batch"],
    ) -> Survivors:
        """What the operators whose turn it is make of the samples that lose tokens here."""
        before = np.zeros_like(evidence.counts) if evidence.n_cuts is None else evidence.n_cuts
        turn = np.array(self.operators)[np.minimum(before, len(self.operators) - 1)]
        falls = on_host(kept) < evidence.counts
        at_work = [operator for operator in get_args(Operator) if operator in turn[falls]]
        if len(at_work) == 1:
            return self._recovery(at_work[0])(evidence, scores, kept, merged)
        survivors = Survivors(evidence.vision_mask)
        for operator in at_work:
            mine = falls & (turn == operator)
            rows = upload(torch.from_numpy(mine), kept.device)
            made = self._recovery(operator)(evidence, scores, *_only(mine, rows, evidence, kept, merged))
            survivors = _replaced(survivors, rows, made, evidence)
        return survivors

    def _recovery(self, operator: Operator) -> Recovery:
        return drop if operator == "prune" else self.merge if operator == "merge" else self.pool


def check_operators(operators: Sequence[str]) -> None:
    """Raise ValueError for what is none of `Operator`, and for none at all."""
    if not operators or not set(operators) <= set(get_args(Operator)):
        known = ", ".join(get_args(Operator))
        raise ValueError(f"operators={tuple(operators)} must be one of {known} for each cut, at least one")


def _only(
    mine: Bool[np.ndarray, "batch"],
    rows: Bool[Tensor, "batch"],
    evidence: Evidence,
    kept: Int[Tensor, "batch"],
    merged: Int[Tensor, "batch"],
) -> tuple[Int[Tensor, "batch"], Int[Tensor, "batch"]]:
    """What to keep and to make of the samples `mine` (`rows` on the device); of the others, all and nothing."""
    return (
        planned(torch.where(rows, kept, evidence.vision_mask.sum(1)), np.where(mine, on_host(kept), evidence.counts)),
        planned(torch.where(rows, merged, 0), np.where(mine, on_host(merged), 0)),
    )


def _replaced(one: Survivors, rows: Bool[Tensor, "batch"], other: Survivors, evidence: Evidence) -> Survivors:
    """The survivors of `one`, in the samples of `rows` those of `other`."""

    def chosen(ours: Tensor | None, theirs: Tensor | None, whole: Tensor) -> Tensor:
        each = rows.view(-1, *[1] * (whole.ndim - 1))
        return torch.where(each, whole if theirs is None else theirs, whole if ours is None else ours)

    unmoved, as_was = one.index is other.index is None, one.hidden is other.hidden is None
    return Survivors(
        chosen(one.keep, other.keep, evidence.vision_mask),
        None if as_was else chosen(one.hidden, other.hidden, evidence.hidden),
        None if unmoved else chosen(one.index, other.index, evidence.index),
    )
