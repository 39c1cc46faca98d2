"""What the live model asks of a pruner, which stands above it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.evidence.evidence import Estimator, Scorer
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.plan import Plan
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.selection.recovery import Recovery


@runtime_checkable
class PrunerLike(Protocol):
    """`autoprune_lab.pruner.Pruner`, whose fields and methods these are."""

    @property
    def policy(self) -> Policy:
        """Asked only whether it is adaptive."""

    @property
    def scorer(self) -> Scorer:
        """Which tokens stay."""

    @property
    def opening_scorer(self) -> Scorer | None:
        """Which ones at a cut before the probe; None: `scorer` says."""

    @property
    def complexity(self) -> Estimator:
        """Bits of each sample, asked after the probe layer if the policy is adaptive."""

    @property
    def recovery(self) -> Recovery:
        """What becomes of the rest."""

    @property
    def probe_layer(self) -> int:
        """Pruning is free from the next layer on; -1: from layer 0."""

    @property
    def positions(self) -> str:
        """`original` or `compact`."""

    def plan(self, complexities: Float[np.ndarray, "batch"], geometries: Sequence[Geometry]) -> Plan:
        """Tokens entering each layer of each sample."""

    def opening(self, n_vision: Int[np.ndarray, "batch"]) -> tuple[int, Int[np.ndarray, "batch"]] | None:
        """Layer and tokens of a cut before the probe, if there is one."""
