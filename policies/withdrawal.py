"""Every visual token up to a depth, none behind it; a budget says the depth."""

from dataclasses import dataclass

import numpy as np

from autoprune_lab import Policy, Shape, Signal

_DECADES = 270.0  # between the first and the last layer's weight, within what a float holds


@dataclass(frozen=True)
class WithdrawalPolicy(Policy):
    """All visual tokens enter the layers before round(depth * n_layers), none the others.

    `depth` in [0, 1], at least one layer. A budget fills layer after layer and so chooses the depth itself; the next
    layer gets what is left, a part of the tokens. In decoders so deep that a layer weighs less than the one before
    divided by a sample's tokens (576: more than 97 layers), a few enter one layer more.

    Source: arXiv 2405.05803 (VTW), github.com/lzhxmu/VTW at 34a4199: layer 15 of 32, "keep" positions.
    Differs: VTW picks a layer for each model and task, see `autoprune_lab.evaluation.divergence`.
    """

    depth: float = 0.46875

    def __post_init__(self) -> None:
        """Raise ValueError for a depth outside [0, 1]."""
        if not 0 <= self.depth <= 1:
            raise ValueError(f"depth={self.depth} is outside [0, 1]: give a fraction of the layers")

    def shape(self, signal: Signal) -> Shape:
        """At least 1 up to the depth, at most 1e-6 behind it, and a layer is full before the next one gets a token."""
        behind = np.arange(signal.n_layers) - max(round(self.depth * signal.n_layers), 1)
        return 10.0 ** (-_DECADES / signal.n_layers * behind - 6.0 * (behind >= 0))
