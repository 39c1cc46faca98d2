"""NeededDepth: how many layers, or how many visual tokens, a sample needs."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.calibration import (
    SampleNeeds,
    check_figures,
    check_numbers,
    check_ready,
    plain,
    ridge,
    standard_of,
    standardised,
)
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.figures import FIGURES, read_figures


@dataclass(frozen=True)
class NeededDepth:
    """What a sample needs, in layers or in visual tokens: a ridge regression on figures of the probe layer's evidence.

    `figures`: names of `autoprune_lab.evidence.figures.FIGURES`. `text`: so many numbers of the text rows' mean hidden
    state beside them. `needs`: "depth", the layers that every visual token must enter, or "tokens" that must enter
    every layer. The rest are a calibration's numbers, unset before it: the `layer` that was read; `means` and `scales`
    of the figures, `weights` of the figures so standardised and the `offset`, in layers or tokens; the number is
    clipped to [0, `most`].

    Source: ours; one number of attention, mutual information, stands for a sample's need in arXiv 2509.23931.
    """

    figures: tuple[str, ...] = tuple(FIGURES)
    text: int = 0
    needs: Literal["depth", "tokens"] = "depth"
    layer: int | None = None
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    offset: float = 0.0
    most: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for unknown figures, for none, and for numbers that do not fit them."""
        check_figures(self.figures, self.text, list(FIGURES))
        n_figures = len(self.figures) + self.text
        check_numbers(n_figures, self.layer, means=self.means, scales=self.scales, weights=self.weights)

    @property
    def ready(self) -> bool:
        """Has it been calibrated?"""
        return self.layer is not None

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch"]:
        """Layers, or tokens, in [0, `most`]. CalibrationError before it is calibrated, or at another layer."""
        check_ready(self, self.layer, evidence.layer)
        return self.predict(self.read(evidence))

    def read(self, evidence: Evidence) -> Float[Tensor, "batch figures"]:
        """The figures, as they are."""
        return read_figures(evidence, self.figures, self.text)

    def predict(self, figures: Float[Tensor, "batch figures"]) -> Float[Tensor, "batch"]:
        """The number that figures stand for."""
        standard = standardised(figures, self.means, self.scales)
        return (standard @ standard.new_tensor(self.weights) + self.offset).clamp(0.0, self.most)

    def targets(self, needs: SampleNeeds) -> Float[np.ndarray, "samples"]:
        """Needed layers, or tokens."""
        return needs.depth if self.needs == "depth" else needs.tokens

    def calibrated(self, figures: Float[Tensor, "samples figures"], needs: SampleNeeds, layer: int) -> "NeededDepth":
        """The same with numbers: the penalty by leave-one-out; `most` is all layers, or the most tokens needed."""
        means, scales = standard_of(figures.numpy())
        targets = self.targets(needs)
        weights, offset = ridge(standardised(figures, means, scales).numpy(), targets)
        most = needs.n_layers if self.needs == "depth" else targets.max()
        return replace(
            self,
            layer=layer,
            means=means,
            scales=scales,
            weights=plain(weights),
            offset=plain([offset])[0],
            most=float(most),
        )
