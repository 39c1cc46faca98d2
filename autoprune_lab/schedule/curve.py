"""Retention curves: which fraction of a sample's visual tokens enters each decoder layer."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

FULL = np.inf
"""In a shape: "every visual token enters this layer, whatever the budget"."""

Shape = Float[np.ndarray, "layers"]
"""One weight per decoder layer: >= 0, never rising with depth, no NaN; `FULL` is allowed."""

_ROUNDING = 1e-9  # of a token: 0.29 * 100 is 28.999999999999996 in floats and means 29


def whole_tokens(
    keep: Float[np.ndarray, "*batch layers"], n_vision: int | Int[np.ndarray, "*batch #layers"]
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
