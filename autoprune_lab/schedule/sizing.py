"""Sizing: what turns the shapes that a policy says into whole tokens. Every budget is one, and a user's own may be."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.opening import Opening, left_open
from autoprune_lab.schedule.plan import Plan, Splits, keep_all

Shapes = Float[np.ndarray, "batch layers"]


class Sizing(ABC):
    """Says the size of the curves. Subclass as a frozen dataclass.

    `extra_layers`: so many layers more than the decoder has are asked of the policy. `merges`: plans hold merged tokens
    whatever the recovery's split says, so that it must be one that makes some at every cut. `opening`: a cut before
    layer 0, in tokens or as a part of the sample's own; a field of the sizings that can make one.
    """

    extra_layers: ClassVar[int] = 0
    merges: ClassVar[bool] = False
    opening: int | float | None = None

    @abstractmethod
    def plan(
        self,
        shapes: Shapes,
        geometries: Sequence[Geometry],
        free_from: int,
        max_cuts: int | None = None,
        split: Splits = keep_all,
    ) -> Plan:
        """Visual tokens entering each layer of each sample, (batch, layers); every sample has n_vision >= 1.

        Layers before `free_from`, and layers whose shape is `FULL`, keep every token that an opening leaves. With
        `max_cuts`, a sample falls at the entrance of so many layers at most, the opening's included. `split` is the
        recovery's; see `plan.Splits`.
        """

    def opens(self, n_vision: Int[np.ndarray, "batch"]) -> Opening | None:
        """The cut before the probe that this sizing makes, if it makes one; its plans hold the same tokens there."""
        return None if self.opening is None else Opening(0, left_open(self.opening, n_vision))

    @property
    def ready(self) -> bool:
        """Can it plan? If not, `calibrated` gives one that can."""
        return True

    def calibrated(self, shapes: Shapes, geometries: Sequence[Geometry], free_from: int) -> "Sizing":
        """The same, with what it must know of a set of samples before it can plan any; most need nothing."""
        return self
