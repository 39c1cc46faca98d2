"""Retention curves: which fraction of a sample's visual tokens enters each decoder layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

FULL = np.inf
"""In a shape: "every visual token enters this layer, whatever the budget"."""

Shape = Float[np.ndarray, "layers"]
"""One weight per decoder layer: >= 0, never rising with depth, no NaN; `FULL` is allowed."""

_ROUNDING = 1e-9  # of a token: 0.29 * 100 is 28.999999999999996 in floats and means 29


@dataclass(frozen=True)
class RetentionCurve:
    """Kept fraction of the visual tokens *entering* each layer; in [0, 1], never rising with depth."""

    keep: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError where the curve is empty, outside [0, 1] or rising."""
        if not self.keep:
            raise ValueError("keep has no layers: a curve needs at least one")
        for layer, value in enumerate(self.keep):
            if not 0 <= value <= 1:
                raise ValueError(f"keep[{layer}]={value} is outside [0, 1]: give a kept fraction")
            if layer and value > self.keep[layer - 1]:
                raise ValueError(f"keep[{layer}]={value} rises above keep[{layer - 1}]={self.keep[layer - 1]}")

    @classmethod
    def from_shape(cls, shape: Shape) -> "RetentionCurve":
        """The curve a shape means when no budget scales it: min(shape, 1)."""
        return cls(tuple(float(value) for value in np.minimum(shape, 1.0)))

    def tokens(self, n_vision: int) -> Int[np.ndarray, "layers"]:
        """Whole visual tokens entering each layer, rounded down."""
        return whole_tokens(np.asarray(self.keep), n_vision)

    @property
    def mean(self) -> float:
        """Mean kept fraction over the layers, in [0, 1]."""
        return float(np.mean(self.keep))


def whole_tokens(
    keep: Float[np.ndarray, "*batch layers"], n_vision: int | Int[np.ndarray, "*batch 1"]
) -> Int[np.ndarray, "*batch layers"]:
    """keep * n_vision in whole tokens, rounded down; what floats make of a whole number stays that number."""
    return np.asarray(np.floor(keep * n_vision + _ROUNDING), dtype=np.int64)


def logistic(n_layers: int, slope: float, midpoint: float) -> Shape:
    """1 / (1 + exp(slope * (l - midpoint))) for l = 0 .. n_layers-1.

    `slope` is per layer and >= 0 (0 is a flat 0.5); `midpoint` is a layer, fractional or outside the decoder.
    Far tails neither overflow nor lose precision.
    """
    if not (0 <= slope < np.inf and np.isfinite(midpoint)):
        raise ValueError(
            f"logistic(slope={slope}, midpoint={midpoint}): slope must be finite and >= 0, midpoint finite"
        )
    curve = np.exp(-np.logaddexp(0.0, slope * (np.arange(n_layers) - midpoint)))
    return np.minimum.accumulate(curve)  # rounding in exp may lift a flat curve by its last bit


def staircase(n_layers: int, layers: Sequence[int], keep: Sequence[float]) -> Shape:
    """Steps: from `layers[i]` on, `keep[i]`; `FULL` before the first step.

    `layers` never falls and `keep`, >= 0, never rises; a step at or past the last layer does not happen.
    """
    if len(layers) != len(keep) or list(layers) != sorted(layers) or any(layer < 0 for layer in layers):
        raise ValueError(f"staircase needs one keep per layer and layers >= 0 in order, got {layers=} {keep=}")
    if not all(value >= 0 for value in keep) or list(keep) != sorted(keep, reverse=True):
        raise ValueError(f"staircase keep={tuple(keep)} must be >= 0 and never rise")
    shape = np.full(n_layers, FULL)
    for layer, value in zip(layers, keep, strict=True):
        shape[layer:] = value
    return shape
