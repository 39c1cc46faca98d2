"""Calibration: from what samples were measured to need, to an estimator that tells it of a sample it has not seen.

The fit is scikit-learn's, imported here only when something is fitted; what it finds are plain numbers in the fields of
a frozen dataclass, which stand in the pruner's file.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence

STRENGTHS = np.logspace(-2, 4, 13)  # of the penalty on weights
_LEAST_SPREAD = 1e-5  # of a figure, as a part of its mean: below it float32 rounds


class CalibrationError(ValueError):
    """An estimator that must be calibrated was not, or cannot be; or was at another layer."""


@dataclass(frozen=True, eq=False)
class SampleNeeds:
    """What samples need, as it was measured; `n_layers` of the decoder.

    `depth`: the least number of layers that every visual token must enter, none the others, for the answer to survive.
    `tokens`: the least number of visual tokens that must enter every layer. `kinds`: of the task, "" where it has none;
    empty where nobody asked.
    """

    depth: Float[np.ndarray, "samples"]
    tokens: Float[np.ndarray, "samples"]
    n_layers: int
    kinds: tuple[str, ...] = ()

    def part(self, chosen: Bool[np.ndarray, "samples"] | Int[np.ndarray, "part"]) -> "SampleNeeds":
        """Those of some samples, by a mask or by their places."""
        kinds = tuple(np.array(self.kinds, dtype=object)[chosen].tolist()) if self.kinds else ()
        return SampleNeeds(self.depth[chosen], self.tokens[chosen], self.n_layers, kinds)

    def averaged(self) -> "SampleNeeds":
        """The same, but that every known need is the mean of its kind's: luck in single answers evens out.

        Raises CalibrationError for a task of one kind, in which all would need alike.
        """
        if len({*self.kinds}) < 2:
            raise CalibrationError(
                "by_task_kind=true takes needs by the task's kinds, and there are not two of them here: set "
                "pruner.complexity.by_task_kind=false"
            )
        kinds, depth, tokens = np.array(self.kinds), self.depth.copy(), self.tokens.copy()
        for kind in {*self.kinds}:
            own = (kinds == kind) & self.known
            if own.any():
                depth[own], tokens[own] = depth[own].mean(), tokens[own].mean()
        return SampleNeeds(depth, tokens, self.n_layers, self.kinds)

    @property
    def known(self) -> Bool[np.ndarray, "samples"]:
        """Has a sample both? Not one whose answer not even every token brings."""
        return np.asarray(np.isfinite(self.depth) & np.isfinite(self.tokens))


@runtime_checkable
class Calibrated(Protocol):
    """An estimator that is fitted; a user's own is one by having these, beside `__call__`."""

    @property
    def ready(self) -> bool:
        """Has it been fitted?"""

    def read(self, evidence: Evidence) -> Float[Tensor, "batch figures"]:
        """What it goes by; also before it is fitted."""

    def predict(self, figures: Float[Tensor, "batch figures"]) -> Float[Tensor, "batch"]:
        """The numbers that it makes of that."""

    def targets(self, needs: SampleNeeds) -> Float[np.ndarray, "samples"]:
        """What the numbers of these samples should be."""

    def calibrated(self, figures: Float[Tensor, "samples figures"], needs: SampleNeeds, layer: int) -> "Calibrated":
        """Itself, fitted to samples whose needs are known, on figures of this layer. Raises CalibrationError."""


def least_surviving(
    survives: Bool[np.ndarray, "samples levels"], levels: Float[np.ndarray, "samples levels"]
) -> Float[np.ndarray, "samples"]:
    """The least level from which on the answer survives at every level; NaN where not even the last one keeps it.

    `levels` rise from left to right. A level above which the answer is lost again does not count: it was luck.
    """
    from_here_on = np.logical_and.accumulate(survives[:, ::-1], axis=1)[:, ::-1]
    least = levels[np.arange(len(levels)), from_here_on.argmax(axis=1)]
    return np.where(from_here_on[:, -1], least, np.nan)


@dataclass(frozen=True)
class Quality:
    """How well numbers tell needs, on samples that the fit did not see; NaN where it cannot be said.

    `r2`: 1 - squared error / variance. `spearman`: rank correlation. `auc`: of telling the samples that need at least
    the median from the others, 0.5 by chance. `accuracy`: the share of numbers that round to the target.
    """

    r2: float
    spearman: float
    auc: float
    accuracy: float


def quality(numbers: Float[np.ndarray, "samples"], targets: Float[np.ndarray, "samples"]) -> Quality:
    """How well `numbers` tell `targets`."""
    from scipy.stats import spearmanr
    from sklearn.metrics import r2_score, roc_auc_score

    nan = float("nan")
    if len(targets) < 2 or np.ptp(targets) == 0:
        return Quality(nan, nan, nan, float((np.round(numbers) == targets).mean()) if len(targets) else nan)
    much = targets >= max(np.median(targets), np.nextafter(targets.min(), np.inf))  # some less, whatever the median is
    return Quality(
        float(r2_score(targets, numbers)),
        float(spearmanr(numbers, targets).statistic) if np.ptp(numbers) > 0 else nan,
        float(roc_auc_score(much, numbers)),
        float((np.round(numbers) == np.round(targets)).mean()),
    )


def standard_of(figures: Float[np.ndarray, "samples figures"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations over the samples of a fit, of six digits; 1 for a figure that never changes.

    Raises CalibrationError for figures that are not finite, and for less than two samples.
    """
    if len(figures) < 2:
        raise CalibrationError(f"{len(figures)} samples to fit, at least 2 are needed: raise task.per_kind")
    if n_bad := int((~np.isfinite(figures)).sum()):
        raise CalibrationError(f"{n_bad} of {figures.size} figures are not finite: the model cannot be read there")
    means, scales = figures.mean(axis=0, dtype=float), figures.std(axis=0, dtype=float)
    return plain(means), plain(np.where(scales > _LEAST_SPREAD * np.maximum(abs(means), 1e-3), scales, 1.0))


def standardised(
    figures: Float[Tensor, "batch figures"], means: Sequence[float], scales: Sequence[float]
) -> Float[Tensor, "batch figures"]:
    """Mean 0 and standard deviation 1 on the samples of the fit; float64."""
    return (figures.double() - figures.new_tensor(means, dtype=torch.float64)) / figures.new_tensor(
        scales, dtype=torch.float64
    )


def ridge(figures: Float[np.ndarray, "samples figures"], targets: Float[np.ndarray, "samples"]) -> tuple[Any, float]:
    """Weights and offset of a ridge regression; its strength by leave-one-out among 1e-2 to 1e4."""
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=STRENGTHS).fit(figures, targets)
    return fitted.coef_, float(fitted.intercept_)


def logistic_classes(
    figures: Float[np.ndarray, "samples figures"], targets: Float[np.ndarray, "samples"]
) -> tuple[Float[np.ndarray, "classes figures"], Float[np.ndarray, "classes"]]:
    """Weights and offsets of a multinomial logistic regression on targets 0, 1, ...; its penalty by five folds.

    Raises CalibrationError where all targets are one class.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(targets)) < 2:
        raise CalibrationError("all samples need the same: there are no kinds of need to tell apart")
    fold = np.random.RandomState(0).permutation(len(targets)) % min(5, len(targets))

    def of(strength: float) -> Any:
        return LogisticRegression(C=1 / strength, max_iter=1000)

    def n_right(strength: float) -> int:
        return sum(_n_right(of(strength), figures, targets, fold == one) for one in np.unique(fold))

    best = max(reversed(STRENGTHS.tolist()), key=n_right)  # of equally good ones the strongest
    fitted = of(best).fit(figures, targets)
    weights, offsets = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # two classes: one row, of the second against the first
        weights, offsets = np.vstack([0 * weights, weights]), np.array([0.0, *offsets])
    return weights, offsets


def _n_right(
    model: Any,
    figures: Float[np.ndarray, "samples figures"],
    targets: Float[np.ndarray, "samples"],
    out: Bool[np.ndarray, "samples"],
) -> int:
    """How many of those left out a model of the others gets right; it may know one class only."""
    known = np.unique(targets[~out])
    if len(known) == 1:
        return int((targets[out] == known[0]).sum())
    return int((model.fit(figures[~out], targets[~out]).predict(figures[out]) == targets[out]).sum())


def plain(values: Any) -> tuple[float, ...]:
    """Numbers of six digits: as they are used, so they are read again."""
    return tuple(float(f"{value:.6g}") for value in np.asarray(values, dtype=float).tolist())


def check_figures(names: Sequence[str], text: int, known: Sequence[str]) -> None:
    """Raise ValueError for an unknown figure, for one twice, and where there is nothing to go by."""
    for name in names:
        if name not in known:
            raise ValueError(f"figures: unknown figure {name!r}; there are: {', '.join(known)}")
    if len({*names}) < len(names):
        raise ValueError(f"figures={list(names)}: one stands there twice")
    if text < 0 or not (names or text):
        raise ValueError(f"figures={list(names)} and text={text}: name a figure, or give text a number above 0")


def check_numbers(n_figures: int, layer: int | None, **lists: Sized) -> None:
    """Raise ValueError unless a calibration's numbers are all unset, or all set, one for each figure."""
    lengths = {name: len(numbers) for name, numbers in lists.items()}
    unset = layer is None and not any(lengths.values())
    if not unset and (layer is None or any(length != n_figures for length in lengths.values())):
        raise ValueError(
            f"{lengths} numbers at layer {layer} for {n_figures} figures: leave all unset, or take all from one "
            "calibration"
        )


def check_ready(estimator: "Calibrated", calibrated_at: int | None, layer: int) -> None:
    """Raise CalibrationError unless an estimator was calibrated, and at this layer."""
    name = type(estimator).__name__
    if not estimator.ready:
        raise CalibrationError(f"{name} is not calibrated: autoprune calibrate measures its numbers and writes them")
    if calibrated_at != layer:
        raise CalibrationError(
            f"{name} was calibrated at layer {calibrated_at}, not {layer}: set pruner.probe_layer={calibrated_at}, "
            f"or calibrate it there: autoprune calibrate pruner.probe_layer={layer}"
        )
