"""What lies between `mutual_information` and the official code's number on the same attention, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

_LEAST_MASS, _EPS = 1e-30, 1e-6


@dataclass(frozen=True)
class EstimatorGap:
    """One sample's bits, from the normalised mean over heads to the official number; all but the first are differences.

    `head_sum`: heads are summed. `visual_mass`: each head counts only as far as its text looks at the picture, by the
    mean mass of its rows. `unequal_rows`: rows count by their own mass instead, and that they differ counts as
    information. `eps`: 1e-6 in the denominator and under the logarithm, negative for any usual attention.
    """

    normalised: float
    head_sum: float
    visual_mass: float
    unequal_rows: float
    eps: float

    @property
    def official(self) -> float:
        """The sum of all: `mutual_information_official`, in float64."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def estimator_gap(attention: Float[Tensor, "heads text vision"]) -> EstimatorGap:
    """Take one sample's attention (>= 0, at least one row and one head) apart; computed in float64.

    Source: arXiv 2509.23931 and github.com/AutoLab-SAI-SJTU/AutoPrune at e4a9918.
    """
    if 0 in attention.shape[:2]:
        raise ValueError(f"attention {tuple(attention.shape)} has no heads or no text rows: nothing to compare")
    a = attention.double()
    mass = a.sum(-1, keepdim=True)
    seen = mass >= _LEAST_MASS
    equal = torch.where(seen, a / mass, 0.0)
    per_head = _information(equal, seen.sum(1).clamp(min=1)).clamp(min=0)
    scaled, as_they_are = (mass.mean((1, 2)) * per_head).sum(), _information(a).sum()
    steps = per_head.mean(), per_head.sum(), scaled, as_they_are, _information(a, eps=_EPS).sum()
    differences = [steps[0], *(after - before for before, after in pairwise(steps))]
    return EstimatorGap(*map(float, differences))


def plot_gaps(gaps: Mapping[str, EstimatorGap], axes: Axes | None = None, path: Path | str | None = None) -> Figure:
    """Named samples as groups of bars: the normalised bits, each step, and the official bits where they end."""
    axes = Figure(figsize=(7.5, 3.6), layout="constrained").subplots() if axes is None else axes
    names = [*(field.name for field in fields(EstimatorGap)), "official"]
    width = 0.8 / max(len(gaps), 1)
    for i, (name, gap) in enumerate(gaps.items()):
        places = [j + (i - (len(gaps) - 1) / 2) * width for j in range(len(names))]
        axes.bar(places, [getattr(gap, part) for part in names], width, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set_ylabel("bits")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    if path is not None:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return figure


def _information(
    rows: Float[Tensor, "heads text vision"], n_rows: Tensor | None = None, eps: float = 0.0
) -> Float[Tensor, "heads"]:
    """Bits per head of rows that count 1 / `n_rows` each, default all of them; the official formula for `eps`."""
    weight = 1 / (rows.shape[1] if n_rows is None else n_rows[..., None])
    joint: Tensor = weight * rows
    ratio = joint / (weight * joint.sum(1, keepdim=True) + eps)
    logarithm = torch.log2(ratio.clamp(min=eps)) if eps else torch.log2(torch.where(joint > 0, ratio, 1.0))
    return (joint * logarithm).sum((1, 2))
