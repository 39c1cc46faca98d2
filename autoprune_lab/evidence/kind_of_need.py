"""KindOfNeed: which of a few kinds of need, in depth and in tokens, a sample has."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.calibration import (
    SampleNeeds,
    check_figures,
    check_numbers,
    check_ready,
    logistic_classes,
    plain,
    standard_of,
    standardised,
)
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.evidence.figures import FIGURES, read_figures


@dataclass(frozen=True)
class KindOfNeed:
    """The number of a sample's kind of need, 0, 1, ... in order of depth: a multinomial logistic regression.

    Kinds are what k-means makes, when it is calibrated, of needed depth and log2(1 + needed tokens): `kinds` of them,
    fewer where fewer needs differ. `by_task_kind`: a sample's need is the mean of its kind's of the task, so that kinds
    are classes of the task's, and with enough `kinds` those themselves. A table of staircases takes their numbers with
    edges 0.5, 1.5, ... `figures` and `text` as in `NeededDepth`. The rest are a calibration's numbers, unset before it:
    the `layer` that was read; `means` and `scales` of the figures, a kind's `weights` of the figures so standardised
    and its `offsets`; its `centres`, depth in layers and tokens; `spreads`, standard deviations of depth and
    log2(1 + tokens).

    Source: ours; k-means and the regression are those of scikit-learn.
    """

    figures: tuple[str, ...] = tuple(FIGURES)
    text: int = 0
    kinds: int = 3
    layer: int | None = None
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    offsets: tuple[float, ...] = ()
    centres: tuple[tuple[float, ...], ...] = ()
    spreads: tuple[float, ...] = ()
    by_task_kind: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for unknown figures, for none, for less than two kinds, for numbers that do not fit."""
        check_figures(self.figures, self.text, list(FIGURES))
        if self.kinds < 2:
            raise ValueError(f"kinds={self.kinds} must be at least 2")
        rows = {f"weights[{i}]": row for i, row in enumerate(self.weights)}
        check_numbers(len(self.figures) + self.text, self.layer, means=self.means, scales=self.scales, **rows)
        check_numbers(len(self.weights), self.layer, offsets=self.offsets, centres=self.centres)
        check_numbers(2, self.layer, spreads=self.spreads)

    @property
    def ready(self) -> bool:
        """Has it been calibrated?"""
        return self.layer is not None

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch"]:
        """The kind's number. CalibrationError before it is calibrated, or at another layer."""
        check_ready(self, self.layer, evidence.layer)
        return self.predict(self.read(evidence))

    def read(self, evidence: Evidence) -> Float[Tensor, "batch figures"]:
        """The figures, as they are."""
        return read_figures(evidence, self.figures, self.text)

    def predict(self, figures: Float[Tensor, "batch figures"]) -> Float[Tensor, "batch"]:
        """The likeliest kind."""
        standard = standardised(figures, self.means, self.scales)
        logits = standard @ standard.new_tensor(self.weights).T + standard.new_tensor(self.offsets)
        return logits.argmax(1).double()

    def targets(self, needs: SampleNeeds) -> Float[np.ndarray, "samples"]:
        """The kind whose centre is nearest."""
        depth, tokens = np.array(self.centres).T
        return _nearest(_points(needs.depth, needs.tokens), _points(depth, tokens), self.spreads)

    def calibrated(self, figures: Float[Tensor, "samples figures"], needs: SampleNeeds, layer: int) -> "KindOfNeed":
        """The same with numbers: first the kinds, then what tells them apart. CalibrationError where all need alike."""
        from sklearn.cluster import KMeans

        means, scales = standard_of(figures.numpy())
        points = _points(needs.depth, needs.tokens)
        spreads = standard_of(points)[1]
        n_kinds = min(self.kinds, len(np.unique(points, axis=0)))
        found = KMeans(n_kinds, n_init=10, random_state=0).fit(points / np.array(spreads)).cluster_centers_ * spreads
        centres = [plain([depth, np.exp2(log_tokens) - 1]) for depth, log_tokens in sorted(found.tolist())]
        targets = _nearest(points, _points(*np.array(centres).T), spreads)
        weights, offsets = logistic_classes(standardised(figures, means, scales).numpy(), targets)
        return replace(
            self,
            layer=layer,
            means=means,
            scales=scales,
            weights=tuple(map(plain, weights)),
            offsets=plain(offsets),
            centres=tuple(centres),
            spreads=spreads,
        )


def _points(depth: Float[np.ndarray, "n"], tokens: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 2"]:
    """Needs in the plane where their distances count."""
    return np.stack([depth, np.log2(1 + tokens)], axis=1)


def _nearest(
    points: Float[np.ndarray, "samples 2"], centres: Float[np.ndarray, "kinds 2"], spreads: tuple[float, ...]
) -> Float[np.ndarray, "samples"]:
    apart = (points[:, None] - centres[None]) / np.array(spreads)
    return np.asarray((apart**2).sum(-1).argmin(1), dtype=float)
