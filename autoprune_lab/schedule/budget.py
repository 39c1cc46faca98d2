"""Budget: scales a policy's shape to whole tokens per layer, up to a bound and never over it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Int

from autoprune_lab.schedule.allocation import Column, Cost, Counts, Price, allocate, column
from autoprune_lab.schedule.curve import Shape, whole_tokens
from autoprune_lab.schedule.cuts import check_max_cuts, fewer_cuts_opened
from autoprune_lab.schedule.flops import fixed_flops, layer_terms, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.opening import check_opening, check_room, left_open
from autoprune_lab.schedule.plan import Plan, Splits, keep_all
from autoprune_lab.schedule.sizing import Shapes, Sizing


class BudgetError(ValueError):
    """The bound lies below what text and the layers that stay full cost alone, by `missing` in the bound's unit."""

    def __init__(self, message: str, missing: float) -> None:
        super().__init__(message)
        self.missing = missing

    def __reduce__(self) -> tuple[type["BudgetError"], tuple[str, float]]:
        """What pickle makes it of again: an error of a worker process is told in the one that waits for it."""
        return type(self), (str(self), self.missing)


@dataclass(frozen=True)
class Budget(Sizing):
    """An upper bound on one sample's prefill. Exactly one of the first two is given.

    `flops_ratio`: pruned / unpruned prefill FLOPs of the decoder, text included, in (0, 1].
    `mean_tokens`: mean over layers of the visual tokens *entering* each layer, > 0.
    `opening`: at most so many visual tokens, >= 1, or this part of the sample's own, in (0, 1), enter layer 0, so that
    the layers up to the probe cost little. An opened prompt is planned like one that never had more, within the bound
    of the whole one: "every token" and a shape's fractions are of what the opening leaves. None: all enter.
    """

    flops_ratio: float | int | None = None
    mean_tokens: float | int | None = None
    opening: int | float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless exactly one bound is given, in its range, and an opening in one of its own."""
        check_opening(self.opening)
        if (self.flops_ratio is None) == (self.mean_tokens is None):
            raise ValueError(f"{self}: give exactly one of flops_ratio and mean_tokens")
        if self.flops_ratio is not None and not 0 < self.flops_ratio <= 1:
            raise ValueError(f"flops_ratio={self.flops_ratio} is outside (0, 1]")
        if self.mean_tokens is not None and not 0 < self.mean_tokens < math.inf:
            raise ValueError(f"mean_tokens={self.mean_tokens} must be finite and above 0")

    def fit(
        self, shape: Shape, geometry: Geometry, free_from: int, max_cuts: int | None = None
    ) -> Int[np.ndarray, "layers"]:
        """Whole visual tokens entering each layer, for one sample; see `fit_batch`."""
        return np.asarray(self.fit_batch(shape[None], [geometry], free_from, max_cuts)[0])

    def fit_batch(
        self, shapes: Shapes, geometries: Sequence[Geometry], free_from: int, max_cuts: int | None = None
    ) -> Counts:
        """Whole visual tokens entering each layer, never rising, never over the bound.

        Layers before `free_from`, and layers whose shape is `FULL`, keep every token. For the others, let a
        common scale grow from 0: token j of layer l enters at j / (shape[l] * n_vision), at equal scales the
        lower layer's first. The longest such sequence within the bound is kept: unless the layers of weight
        above 0 are full, less than one token of one layer is wasted. A larger bound takes no token away.
        With `max_cuts`, a sample falls at the entrance of so many layers at most; see `cuts.fewer_cuts`.
        With an `opening`, all this holds of the tokens that it leaves, and where it drops any it is one of the cuts.
        Raises BudgetError, naming the floor, when the full layers alone are over the bound.
        """
        _check(shapes, geometries, free_from, max_cuts, self.opening)
        full, (n_vision, opened) = _full(shapes, free_from), self._entering(geometries)
        held, cost = np.where(full, opened, 0), self._cost(geometries)
        if (cost.total(held) > cost.bound).any():
            raise self._refusal(shapes, geometries, free_from)
        counts = allocate(np.where(full, 0.0, shapes), held, opened, cost)
        return counts if max_cuts is None else fewer_cuts_opened(counts, opened, n_vision, cost, max_cuts)

    def plan(
        self,
        shapes: Shapes,
        geometries: Sequence[Geometry],
        free_from: int,
        max_cuts: int | None = None,
        split: Splits = keep_all,
    ) -> Plan:
        """`fit_batch`, split as the recovery splits what is allowed."""
        counts = self.fit_batch(shapes, geometries, free_from, max_cuts)
        return Plan.within(counts, self._entering(geometries)[1][:, 0], split)

    def floor(self, shape: Shape, geometry: Geometry, free_from: int) -> float:
        """The least bound that `fit` can reach, in the budget's own unit: every free layer empty."""
        _check(shape[None], [geometry], free_from, None, self.opening)
        held = np.where(_full(shape[None], free_from), self._entering([geometry])[1], 0)
        return (int(self._cost([geometry]).total(held)[0, 0]) + self._fixed(geometry)) / self._whole(geometry)

    def _fixed(self, geometry: Geometry) -> int:
        """What no plan changes."""
        return 0 if self.flops_ratio is None else fixed_flops(geometry)

    def _whole(self, geometry: Geometry) -> int:
        """What a bound of 1 stands for: the unpruned FLOPs, or one token in every layer."""
        return geometry.n_layers if self.flops_ratio is None else unpruned_flops(geometry)

    def _entering(self, geometries: Sequence[Geometry]) -> tuple[Column, Column]:
        """Visual tokens of each prompt, and those of them that enter layer 0 at most."""
        n_vision = column([geometry.n_vision for geometry in geometries])
        return n_vision, left_open(self.opening, n_vision)

    def _cost(self, geometries: Sequence[Geometry]) -> Cost:
        """Per sample and layer, cost in whole FLOPs or tokens; per sample, what of the bound is left to the layers."""
        if self.flops_ratio is None:
            ones = np.ones((len(geometries), geometries[0].n_layers), dtype=np.int64)
            linear, quadratic, text, chunks = ones, 0 * ones, [0 for _ in geometries], {}
        else:
            linear, quadratic = (np.stack(part) for part in zip(*map(layer_terms, geometries), strict=True))
            text, chunks = [geometry.n_text for geometry in geometries], _chunks(geometries)
        wholes = [self._whole(geometry) for geometry in geometries]
        bounds = _largest(float(self.flops_ratio or self.mean_tokens or 0), wholes)
        left = [bound - self._fixed(geometry) for bound, geometry in zip(bounds, geometries, strict=True)]
        return Cost(linear, quadratic, column(text), column(left), chunks)

    def _refusal(self, shapes: Shapes, geometries: Sequence[Geometry], free_from: int) -> BudgetError:
        """Names the floor of the sample whose floor is highest."""
        floors = [self.floor(shape, geometry, free_from) for shape, geometry in zip(shapes, geometries, strict=True)]
        worst = int(np.argmax(floors))
        name, bound = next((name, value) for name, value in vars(self).items() if value is not None)
        text = f"{geometries[worst].n_text} text tokens and " if name == "flops_ratio" else ""
        left = "" if self.opening is None else f" that opening={self.opening} leaves"
        return BudgetError(
            f"budget {name}={bound} is unreachable: {text}the layers that keep every visual token{left} (the first "
            f"{free_from} by free_from, {np.isinf(shapes[worst]).sum()} FULL in the shape) alone cost "
            f"{math.ceil(floors[worst] * 1e4) / 1e4}; raise the bound or cut earlier",
            missing=floors[worst] - bound,
        )


@dataclass(frozen=True)
class OwnCurve(Sizing):
    """No budget: a shape is the curve itself, min(shape, 1) of the tokens, in whole tokens rounded down."""

    def plan(
        self,
        shapes: Shapes,
        geometries: Sequence[Geometry],
        free_from: int,
        max_cuts: int | None = None,
        split: Splits = keep_all,
    ) -> Plan:
        """With `max_cuts`, a sample costs no more FLOPs than its own curve; see `cuts.fewer_cuts`."""
        return own_curve(shapes, geometries, free_from, max_cuts, split, Budget(flops_ratio=1))


def own_curve(
    shapes: Shapes, geometries: Sequence[Geometry], free_from: int, max_cuts: int | None, split: Splits, unit: Budget
) -> Plan:
    """`OwnCurve`'s plan, opened as `unit` opens. With `max_cuts`, a sample costs no more than its curve in `unit`'s."""
    _check(shapes, geometries, free_from, max_cuts, unit.opening)
    n_vision, opened = unit._entering(geometries)
    counts = whole_tokens(np.where(_full(shapes, free_from), 1.0, np.minimum(shapes, 1.0)), opened)
    if max_cuts is not None:
        cost = unit._cost(geometries)
        counts = fewer_cuts_opened(counts, opened, n_vision, replace(cost, bound=cost.total(counts)), max_cuts)
    return Plan.within(counts, opened[:, 0], split)


def _chunks(geometries: Sequence[Geometry]) -> dict[int, tuple[Price, Price]]:
    """By the length of a chunk, the prices of every sample's layers."""
    none = np.zeros((2, geometries[0].n_layers), dtype=np.int64)
    sizes = sorted({size for geometry in geometries for size in geometry.chunked})
    priced = {size: np.stack([geometry.chunked.get(size, none) for geometry in geometries], axis=1) for size in sizes}
    return {size: (each, pair) for size, (each, pair) in priced.items()}


def _largest(bound: float, wholes: Sequence[int]) -> list[int]:
    """The largest n of each whole with n / whole <= bound as floats: a measured ratio can be asked for."""
    above = (Fraction(bound) + Fraction(math.nextafter(bound, math.inf))) / 2  # what is below rounds to bound
    return [-(-above.numerator * whole // above.denominator) - 1 for whole in wholes]


def _full(shapes: Shapes, free_from: int) -> Bool[np.ndarray, "batch layers"]:
    return np.asarray(np.isinf(shapes) | (np.arange(shapes.shape[1]) < free_from))


def _check(
    shapes: Shapes,
    geometries: Sequence[Geometry],
    free_from: int,
    max_cuts: int | None = None,
    opening: int | float | None = None,
) -> None:
    """Raise ValueError where the arguments do not belong together or a shape breaks the contract."""
    if not geometries or shapes.shape[0] != len(geometries):
        raise ValueError(f"{len(shapes)} shapes for {len(geometries)} geometries: give one each, at least one")
    if any(geometry.n_layers != shapes.shape[1] for geometry in geometries):
        raise ValueError(f"shapes have {shapes.shape[1]} layers, a geometry has another number")
    if free_from < 0:
        raise ValueError(f"free_from={free_from} must be a layer >= 0")
    check_max_cuts(max_cuts)
    if opening is not None:
        check_room(free_from, max_cuts)
    if not (shapes >= 0).all() or (shapes[:, 1:] > shapes[:, :-1]).any():
        raise ValueError(
            "a shape holds NaN, a negative weight or a rise: see autoprune_lab.schedule.policy.check_shape"
        )
