"""Measures what the samples of a prepared task need, and fits an estimator to it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from autoprune_lab.evaluation.evaluate import read_figures
from autoprune_lab.evidence.calibration import (
    Calibrated,
    CalibrationError,
    Quality,
    SampleNeeds,
    least_surviving,
    quality,
)
from autoprune_lab.evidence.kind_of_need import KindOfNeed
from autoprune_lab.evidence.needed_depth import NeededDepth
from autoprune_lab.pruner import Pruner
from autoprune_lab.statistics.replay import rectangles
from autoprune_lab.statistics.resampling import folds
from search.config.schema import CalibrationSettings
from search.study.model_evaluator import ModelEvaluator
from search.study.replay import replay

BASELINE = ("mutual_information",)
HELD_OUT = 3  # every third sample of a kind is left out of the fit


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted estimator; how well it, and the baseline, tell samples that neither has seen.

    The baseline is the same estimator, but that mutual information is its only figure; None where there is none, as
    before layer 0. `n_fit` and `n_held_out` samples; of `n_lost` others not even every visual token keeps the answer.
    """

    estimator: Calibrated
    quality: Quality
    baseline: Quality | None
    n_fit: int
    n_held_out: int
    n_lost: int
    needs: SampleNeeds


def calibrate(evaluator: ModelEvaluator, pruner: Pruner, settings: CalibrationSettings) -> Calibration:
    """Fit the pruner's estimator at its probe layer, behind its opening, to what its scorer and recovery make needed.

    Raises CalibrationError where too few samples have a need.
    """
    estimator = pruner.complexity
    assert isinstance(estimator, Calibrated)
    needs = measure_needs(evaluator, pruner, settings)
    needs = needs.averaged() if getattr(estimator, "by_task_kind", False) else needs
    known = np.flatnonzero(needs.known)
    out = held_out([evaluator.prepared.samples[i].kind for i in known])
    fit, rest = known[~out], known[out]
    if len(rest) == 0:
        raise CalibrationError(
            f"{len(known)} samples have a need: none is left to test a fit on; raise task.per_kind (3 at least)"
        )

    def fitted(one: Calibrated) -> tuple[Calibrated, Quality]:
        figures = read_figures(evaluator.vlm, evaluator.prepared, pruner, one)
        ready = one.calibrated(figures[fit], needs.part(fit), pruner.probe_layer)
        numbers = ready.predict(figures[rest]).cpu().numpy()
        return ready, quality(numbers, ready.targets(needs.part(rest)))

    ready, how_well = fitted(estimator)
    other = _baseline(estimator, pruner.probe_layer)
    baseline = None if other is None else fitted(other)[1]
    n_lost = len(evaluator.geometries) - len(known)
    return Calibration(ready, how_well, baseline, len(fit), len(rest), n_lost, needs)


def measure_needs(evaluator: ModelEvaluator, pruner: Pruner, settings: CalibrationSettings) -> SampleNeeds:
    """What each sample needs, by replaying all tokens to some depth, and some tokens to the end; NaN: has no need.

    A sample without visual tokens has none, nor has one whose answer is not right (or with `labels` off: never the
    unpruned one's) even with all of them. Layers up to the probe keep what the opening leaves.
    """
    n_layers, free_from, asked = evaluator.geometries[0].n_layers, pruner.probe_layer + 1, settings.filled()
    n_vision = np.array([geometry.n_vision for geometry in evaluator.geometries])
    opened = pruner.opens(n_vision)
    left = n_vision if opened is None else opened.tokens
    depths, fractions = depths_of(n_layers, free_from, asked.depths), [*sorted({*asked.fractions, 1.0})]
    deep = rectangles(depths, [1.0], n_layers, free_from)
    flat = rectangles([n_layers], fractions, n_layers, free_from)
    print(f"autoprune: calibrating: {len(n_vision)} samples along {len({*deep, *flat})} curves", file=sys.stderr)
    replayed = replay(evaluator, pruner, [*deep, *flat])
    survives = replayed.right if asked.labels else replayed.agrees
    levels = np.broadcast_to(np.array(depths, dtype=float), (len(left), len(depths)))
    depth = least_surviving(survives[:, : len(deep)], levels)
    tokens = least_surviving(survives[:, len(deep) :], left[:, None] * np.array(fractions))
    kinds = tuple(sample.kind for sample in evaluator.prepared.samples)
    return SampleNeeds(np.where(n_vision > 0, depth, np.nan), np.where(n_vision > 0, tokens, np.nan), n_layers, kinds)


def held_out(kinds: Sequence[str]) -> Bool[np.ndarray, "samples"]:
    """Every third sample of each kind, in their order: the ones that no fit sees."""
    return np.asarray(folds(kinds, HELD_OUT) == HELD_OUT - 1)


def depths_of(n_layers: int, free_from: int, most: int) -> Sequence[int]:
    """At most so many depths, from the first that can be had to all layers, evenly spaced."""
    return sorted({round(x) for x in np.linspace(free_from, n_layers, min(most, n_layers - free_from + 1))})


def _baseline(estimator: Calibrated, layer: int) -> Calibrated | None:
    if layer < 0 or not isinstance(estimator, NeededDepth | KindOfNeed):
        return None
    return replace(estimator, figures=BASELINE, text=0)
