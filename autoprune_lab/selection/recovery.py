"""Recovery: which tokens fill the planned counts, and what becomes of the rest.

Any function of `drop`'s type is one. A recovery that fills a part of the counts from the tokens that score less is an
object with a method `split`, which tells `Pruner.plan` how large that part is: see `plan.Split`. One whose part differs
from cut to cut of a sample has `splits` instead, one for each cut in turn.

A recovery whose tokens depend on the order in which the visual tokens stand says so in its docstring, in a line that
begins with `Order:`; so do scorers and complexity estimators. Without that line, the contract (`autoprune check`)
wants the same result for every order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.schedule.plan import Split, Splits, keep_all


class Survivors(NamedTuple):
    """Exactly the planned count of slots per sample: kept and merged tokens together.

    A slot that stays keeps its place and position in the sequence. `hidden`, if given, replaces the visual hidden
    states. `index`, if given, replaces the evidence's: where a recovery moves tokens into other slots, which
    needs compact positions.
    """

    keep: Bool[Tensor, "batch vision"]
    hidden: Float[Tensor, "batch vision hidden"] | None = None
    index: Int[Tensor, "batch vision"] | None = None  # type: ignore[assignment]  # hides tuple.index


Recovery = Callable[
    [Evidence, Float[Tensor, "batch vision"], Int[Tensor, "batch"], Int[Tensor, "batch"]],
    Survivors,
]
"""(evidence, scores, kept, merged) -> survivors, kept + merged of each sample: the `kept` best scored, unchanged."""


def split_of(recovery: object) -> Split:
    """How a recovery that is the same at every cut splits what is allowed."""
    split: Split = getattr(recovery, "split", keep_all)
    return split


def splits_of(recovery: object) -> Splits:
    """How a recovery splits what is allowed, at every cut or cut by cut."""
    splits: Splits = getattr(recovery, "splits", split_of(recovery))
    return splits


def merges(recovery: object) -> bool:
    """May it make tokens of dropped ones, at every cut?"""
    splits = splits_of(recovery)
    return keep_all not in ([splits] if callable(splits) else splits)


def drop(
    evidence: Evidence, scores: Float[Tensor, "batch vision"], kept: Int[Tensor, "batch"], merged: Int[Tensor, "batch"]
) -> Survivors:
    """Keep each sample's `kept` best scored tokens and forget the rest; `merged` is 0."""
    return Survivors(best(evidence, scores, kept))


def best(
    evidence: Evidence, scores: Float[Tensor, "batch vision"], counts: Int[Tensor, "batch"]
) -> Bool[Tensor, "batch vision"]:
    """True at each sample's `counts` best scored real tokens."""
    return top_n(torch.where(evidence.vision_mask, scores, -torch.inf) if evidence.padded else scores, counts)


def top_n(scores: Float[Tensor, "batch vision"], counts: Int[Tensor, "batch"]) -> Bool[Tensor, "batch vision"]:
    """True at each row's `counts` highest scores, ties towards the lower index; NaN counts as highest."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    wanted = _first(counts, scores.shape[1])
    return wanted.scatter(1, order, wanted)  # `order` names every slot


def planned(
    counts: Int[Tensor, "batch"], values: Int[np.ndarray, "batch"], first: Bool[Tensor, "batch n"] | None = None
) -> Int[Tensor, "batch"]:
    """The counts, whose values `on_host` then knows without waiting for the device.

    `first`, True at the first `counts` of each row, saves `top_n` making it.
    """
    counts.planned, counts.first = values, first  # type: ignore[attr-defined]
    return counts


def on_host(counts: Int[Tensor, "batch"]) -> Int[np.ndarray, "batch"]:
    """The values of `kept` or `merged`; the device is waited for only where a plan did not know them."""
    values = getattr(counts, "planned", None)
    return counts.cpu().numpy() if values is None else values


def _first(counts: Int[Tensor, "batch"], n: int) -> Bool[Tensor, "batch n"]:
    known: Tensor | None = getattr(counts, "first", None)
    if known is not None and known.shape[1] == n:
        return known
    return torch.arange(n, device=counts.device) < counts[:, None]
