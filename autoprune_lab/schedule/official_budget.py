"""AutoPrune's schedule as its official code computes it, count by count; `Budget` is the sound way.

That code cuts at a layer's output, the last layer's too. `n_opening` tokens leave layer 0. Every later cut keeps a
part of `n_opening`, the best of the tokens present, and makes a few new tokens of the others; these compete like any
other from then on. One scale for the whole curve is searched until the counts sum up to the budget: it may not get
there, and the forward rounds in another precision than the search.

Source: github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918, arXiv 2509.23931.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.schedule.allocation import column
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.opening import Opening, left_open
from autoprune_lab.schedule.plan import Plan, Splits, keep_all
from autoprune_lab.schedule.sizing import Sizing

Cuts = Float[np.ndarray, "cuts"]

_WIDEST, _STEPS, _NEAR = 20.0, 200, 0.01  # of the search: largest scale, most halvings, error in tokens that ends it


@dataclass(frozen=True)
class OfficialBudget(Sizing):
    """AutoPrune's budget, met as nearly as its official code meets it.

    `mean_tokens`: mean over layers of the visual tokens *leaving* each, > 0. What enters, and costs, is more by
    (n_vision - the last layer's cut) / layers. `opening_factor`: int(opening_factor * mean_tokens) >= 1 tokens leave
    layer 0.

    Differs: `Budget` counts what enters and is never passed; this one is missed, either way, by flat curves, by steep
    or early ones and by large bounds.
    """

    extra_layers: ClassVar[int] = 1
    merges: ClassVar[bool] = True
    mean_tokens: float | int
    opening_factor: float | int = 2.5

    def __post_init__(self) -> None:
        """Raise ValueError unless at least one token, and finitely many, leave layer 0."""
        if not 1 <= self.opening_factor * self.mean_tokens < math.inf:
            raise ValueError(f"{self}: layer 0 keeps opening_factor * mean_tokens, which must be at least 1 and finite")

    def opens(self, n_vision: Int[np.ndarray, "batch"]) -> Opening:
        """The first cut, entering layer 1."""
        return Opening(1, left_open(int(self.opening_factor * self.mean_tokens), n_vision))

    def plan(
        self,
        shapes: Float[np.ndarray, "batch outputs"],
        geometries: Sequence[Geometry],
        free_from: int = 2,
        max_cuts: int | None = None,
        split: Splits = keep_all,
    ) -> Plan:
        """Visual tokens *entering* each layer of each sample, (batch, layers); every sample has n_vision >= 1.

        `shapes` are the policy's for one layer more than the decoder has: the last weight is what leaves the last
        layer, which nothing reads but the search counts. Weights of layers 0 and 1 do not matter, nor does `split`:
        the search has its own. Raises ValueError for other sizes, for a shape that is `FULL` deeper down, for another
        probe and for a limit on cuts.
        """
        if free_from != 2 or max_cuts is not None:
            raise ValueError(f"{self} goes with probe_layer=1 and no max_cuts")
        if shapes.shape != (len(geometries), geometries[0].n_layers + 1):
            raise ValueError(
                f"shapes {shapes.shape} for {len(geometries)} samples of {geometries[0].n_layers} layers: "
                "give one each, of one layer more than the decoder has"
            )
        leaving = [self.leaving(shape, g.n_vision) for shape, g in zip(shapes, geometries, strict=True)]
        kept, merged = (np.stack(part)[:, :-1] for part in zip(*leaving, strict=True))
        n_vision = column([geometry.n_vision for geometry in geometries])
        return Plan(np.hstack([n_vision, kept]), np.hstack([0 * n_vision, merged]))

    def leaving(self, shape: Float[np.ndarray, "outputs"], n_vision: int) -> Plan:
        """Visual tokens *leaving* each layer of one sample, (layers,): the mean is the official "avg token num"."""
        raw = shape[2:]
        if np.isinf(raw).any():
            raise ValueError(f"{self}: the shape is FULL after layer 1, where this budget cuts: give another policy")
        n_opening = int(self.opens(np.array([n_vision])).tokens[0])
        return executed(bisect(raw, n_opening, self.mean_tokens) * raw, n_opening)


def merged_tokens(dropped: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """How many tokens the official code makes of `dropped` ones: one in ten of the best 30 %, at least one of any."""
    return np.asarray(np.minimum(candidates(dropped) // 10 + 1, dropped))


def candidates(dropped: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """How many of `dropped` > 0 tokens the official code makes new ones of: the best 30 %, and one."""
    return np.asarray(3 * dropped // 10 + 1)


def bisect(raw: Cuts, n_opening: int, mean_tokens: float | int) -> float:
    """The scale of the raw curve at which the official search ends, in (0, 20): the first best of those it tried.

    `raw` is the part of `n_opening` kept after layers 1, 2, ... It is not searched at all, 1.0, where its whole tokens
    already sum up to the budget: without merged ones, and with the last layer's once more instead of layer 0's.
    """
    budget = (len(raw) + 1) * mean_tokens
    kept = np.floor(_in_float32(n_opening, raw))
    if abs(kept.sum() + kept[-1] - budget) < 1:
        return 1.0
    low, high, best, least = 0.0, _WIDEST, 1.0, math.inf
    for _ in range(_STEPS):
        scale = (low + high) / 2
        error = searched(scale * raw, n_opening).tokens.sum() - budget
        if abs(error) < least:
            best, least = scale, abs(error)
        if least < _NEAR or scale in (low, high):  # found, or no float is left in between
            break
        low, high = (low, scale) if error > 0 else (scale, high)
    return best


def searched(keep: Cuts, n_opening: int) -> Plan:
    """Tokens leaving each layer as the search counts them: in float64, `keep` clipped at 1."""
    return _cut(np.ceil((n_opening - 1) * np.minimum(keep, 1.0)), n_opening)


def executed(keep: Cuts, n_opening: int) -> Plan:
    """Tokens leaving each layer as the forward cuts them: in float32, `keep` not clipped."""
    return _cut(np.ceil(_in_float32(n_opening - 1, keep)), n_opening)


def _in_float32(n_tokens: int, parts: Cuts) -> Float[np.ndarray, "cuts"]:
    """A whole tensor times floats, as torch multiplies them."""
    return np.float32(n_tokens) * parts.astype(np.float32)


def _cut(wanted: Float[np.ndarray, "cuts"], n_opening: int) -> Plan:
    """`n_opening` tokens after layer 0; after each later layer the `wanted` ones, if present, and the merged ones."""
    made = merged_tokens(np.arange(n_opening + 1)).tolist()  # of every number that may be dropped
    kept, merged = [n_opening], [0]
    for most in wanted.astype(np.int64).tolist():
        present = kept[-1] + merged[-1]
        kept.append(min(most, present))
        merged.append(made[present - kept[-1]])
    return Plan(np.array(kept), np.array(merged))
