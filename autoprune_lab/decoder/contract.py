"""What the live model asks of a pruner, which stands above it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.evidence.evidence import Estimator, Scorer
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.opening import Opening
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.selection.recovery import Recovery

# ruff: noqa: D102 - `Pruner` says what they mean


@runtime_checkable  # tests check types as they run
class PrunerLike(Protocol):
    """`autoprune_lab.pruner.Pruner`, whose fields and methods these are; of the policy only whether it is adaptive."""

    @property
    def policy(self) -> Policy: ...
    @property
    def scorer(self) -> Scorer: ...
    @property
    def opening_scorer(self) -> Scorer | None: ...
    @property
    def complexity(self) -> Estimator: ...
    @property
    def recovery(self) -> Recovery: ...
    @property
    def probe_layer(self) -> int: ...
    @property
    def positions(self) -> str: ...
    def plan(self, complexities: Float[np.ndarray, "batch"], geometries: Sequence[Geometry]) -> Plan: ...
    def opens(self, n_vision: Int[np.ndarray, "batch"]) -> Opening | None: ...
