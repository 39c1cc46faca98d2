"""MeanBudget: samples may spend differently, their mean meets the bound."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoprune_lab.schedule.budget import Budget, BudgetError, own_curve
from autoprune_lab.schedule.flops import total_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.plan import Plan, Splits, keep_all
from autoprune_lab.schedule.sizing import Shapes, Sizing

_HALVINGS = 64  # of log(scale): past them no float is left in between
_SCALES = 1e-150, 1e150  # for weights from e^-300 to e^300


@dataclass(frozen=True)
class MeanBudget(Sizing):
    """An upper bound on the *mean* over a calibration set: one common scale for all samples' curves.

    A policy whose weights rise with the sample's need spends more on it, which `Budget` would scale away. Exactly one
    of `flops_ratio` (pruned / unpruned FLOPs, both summed over the samples) and `mean_tokens` (entering a layer, mean
    over layers and samples) is given, as in `Budget`. `scale` > 0 is what calibration found; None: not calibrated yet.
    A sample's plan depends on no other sample. On samples that the calibration has not seen, the mean may differ;
    samples without visual tokens do not count. `opening` is `Budget`'s.
    """

    flops_ratio: float | int | None = None
    mean_tokens: float | int | None = None
    scale: float | None = None
    opening: int | float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless exactly one bound is given, and in its range, and a scale is above 0."""
        _ = self._unit
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale={self.scale} must be finite and above 0; None: not calibrated yet")

    def plan(
        self,
        shapes: Shapes,
        geometries: Sequence[Geometry],
        free_from: int,
        max_cuts: int | None = None,
        split: Splits = keep_all,
    ) -> Plan:
        """min(scale * shape, 1) of each sample's opened tokens; with `max_cuts`, no more than that in the bound's unit.

        So the set's mean, calibrated without a limit on cuts, holds with every limit. Raises ValueError where nothing
        is calibrated yet.
        """
        if self.scale is None:
            raise ValueError(f"{self} is not calibrated: use pruner.calibrated(complexities, geometries) first")
        return own_curve(self.scale * shapes, geometries, free_from, max_cuts, split, self._unit)

    @property
    def ready(self) -> bool:
        """Is there a scale?"""
        return self.scale is not None

    def calibrated(self, shapes: Shapes, geometries: Sequence[Geometry], free_from: int) -> "MeanBudget":
        """The largest scale at which the set's mean is within the bound.

        Raises BudgetError, naming the floor, where the layers that keep every token cost more in the mean.
        """
        bound = float(self.flops_ratio or self.mean_tokens or 0)
        whole = sum(map(unpruned_flops, geometries))

        def spent(scale: float) -> float:
            counts = replace(self, scale=scale).plan(shapes, geometries, free_from).tokens
            return float(counts.mean()) if self.flops_ratio is None else total_flops(geometries, counts) / whole

        low, high = _SCALES
        if (floor := spent(low)) > bound:
            raise BudgetError(
                f"{self} is unreachable: text and the layers that keep every visual token cost {floor:.4f} in the mean "
                f"of {len(geometries)} samples; raise the bound or cut earlier",
                missing=floor - bound,
            )
        for _ in range(_HALVINGS):
            middle = math.sqrt(low) * math.sqrt(high)
            low, high = (middle, high) if spent(middle) <= bound else (low, middle)
        return replace(self, scale=low)

    @property
    def _unit(self) -> Budget:
        """The budget that counts, and opens, as this one does."""
        return Budget(self.flops_ratio, self.mean_tokens, self.opening)
