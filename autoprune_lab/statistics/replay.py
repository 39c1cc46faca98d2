"""Replay: the same samples answered along many curves, and what each answer cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

Curve = tuple[float, ...]
"""The fraction of a sample's visual tokens that enters each layer, in [0, 1] and never rising; or a shape to scale."""
Scores = Float[np.ndarray, "samples curves"]


@dataclass(frozen=True, eq=False)
class Replay:
    """Which samples' answers survive which curve, and at what cost.

    `right`: the answer scores, and at least half of what the unpruned one scores (labelled). `agrees`: the prediction
    is the unpruned one's, word for word (label-free). `flops_ratio`: pruned / unpruned prefill FLOPs of the sample.
    `mean_tokens`: its visual tokens entering a layer, mean over layers. `scores`: the task's own, in [0, 1]; where
    nobody gives them, 1 for a right answer.
    """

    curves: tuple[Curve, ...]
    right: Bool[np.ndarray, "samples curves"]
    agrees: Bool[np.ndarray, "samples curves"]
    flops_ratio: Float[np.ndarray, "samples curves"]
    mean_tokens: Float[np.ndarray, "samples curves"]
    scores: Scores = field(default=None)  # type: ignore[arg-type]  # an array from __post_init__ on

    def __post_init__(self) -> None:
        """Raise ValueError unless every array has one row a sample and one column a curve."""
        if self.scores is None:
            object.__setattr__(self, "scores", self.right.astype(float))
        for name in ("right", "agrees", "flops_ratio", "mean_tokens", "scores"):
            if (shape := getattr(self, name).shape) != (len(self.right), len(self.curves)):
                raise ValueError(
                    f"replay: {name} has shape {shape}, expected {(len(self.right), len(self.curves))}: one row a "
                    "sample, one column a curve"
                )

    def __add__(self, other: "Replay") -> "Replay":
        """The curves of both, for the same samples."""
        arrays = ("right", "agrees", "flops_ratio", "mean_tokens", "scores")
        joined = {name: np.hstack([getattr(self, name), getattr(other, name)]) for name in arrays}
        return Replay(self.curves + other.curves, **joined)


def right(scores: Scores, unpruned: Float[np.ndarray, "samples"]) -> Bool[np.ndarray, "samples curves"]:
    """Does an answer score, and at least half of what the unpruned one scores?"""
    return np.asarray((scores > 0) & (scores >= unpruned[:, None] / 2))


def rectangles(depths: Sequence[int], fractions: Sequence[float], n_layers: int, free_from: int = 0) -> list[Curve]:
    """The grid "keep this fraction for so many layers, then none", depth by depth; all before `free_from`, always.

    `depths` in [0, n_layers], `fractions` in [0, 1]; curves that come out alike stand once.
    """
    curves = [
        tuple([1.0] * free_from + [fraction if layer < depth else 0.0 for layer in range(free_from, n_layers)])
        for depth in depths
        for fraction in fractions
    ]
    return list(dict.fromkeys(curves))
