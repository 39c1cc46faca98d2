"""Replays a task along many curves: one evaluation a curve, and none for a plan whose answers are known.

What is kept, in memory and in the cache's folder, are the predictions: costs are arithmetic on the plan, scores are
the task's rule. A replay that was interrupted goes on with the curve it was at.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.curve import Shape
from autoprune_lab.schedule.flops import flops_ratio, mean_tokens_entering
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.schedule.policy import Policy, Signal
from autoprune_lab.statistics.replay import Curve, Replay, right
from search.study.complexity_cache import code_of
from search.study.model_evaluator import ModelEvaluator
from search.study.planned import Planned, planned


@dataclass(frozen=True)
class GivenCurve(Policy):
    """One shape for every sample, value by value; its last value again where a sizing asks for more layers."""

    curve: Curve

    def shape(self, signal: Signal) -> Shape:
        """The curve; ValueError where it is longer than the decoder."""
        if len(self.curve) > signal.n_layers:
            raise ValueError(f"a curve of {len(self.curve)} layers for a decoder of {signal.n_layers}")
        return np.array(self.curve + self.curve[-1:] * (signal.n_layers - len(self.curve)))


def replay(evaluator: ModelEvaluator, pruner: Pruner, curves: Sequence[Curve], scaled: bool = False) -> Replay:
    """Answer every sample of `evaluator` along every curve: `replay_pruners` of the pruners of `along`."""
    return replay_pruners(evaluator, along(evaluator, pruner, curves, scaled))


def along(evaluator: ModelEvaluator, pruner: Pruner, curves: Sequence[Curve], scaled: bool = False) -> list[Pruner]:
    """One pruner a curve, the same for every sample, with the given pruner's scorers, recovery, probe and opening.

    `scaled`: curves are shapes, scaled by the pruner's budget. Otherwise a curve is taken as it is: fractions of what
    the budget's opening leaves. Layers up to the probe keep every token in both. Raises ValueError for a curve of
    another length than the decoder; a shape that cannot be scaled, or a curve that is none, is told when it is run.
    """
    n_layers = evaluator.geometries[0].n_layers
    for curve in curves:
        if len(curve) != n_layers:
            raise ValueError(f"a curve of {len(curve)} values for a decoder of {n_layers} layers: give one a layer")
    sizing = pruner.budget if scaled else as_it_is(pruner)
    return [replace(pruner, policy=GivenCurve(tuple(map(float, curve))), budget=sizing) for curve in curves]


def replay_pruners(evaluator: ModelEvaluator, pruners: Sequence[Pruner]) -> Replay:
    """Answer every sample with every pruner. A curve says which part of all samples' visual tokens enters each layer.

    Raises BudgetError where a shape cannot be scaled to its budget.
    """
    quiet = replace(evaluator, progress=False)
    asked = progress(pruners, doing="replaying curves", unit="curves", shown=evaluator.progress)
    columns = [_column(quiet, pruner) for pruner in asked]
    unpruned, predictions = answers(quiet, None), [column[1] for column in columns]
    scores = np.array([_scores(evaluator, said) for said in [unpruned, *predictions]]).T
    geometries, tokens = evaluator.geometries, [plan.plan.tokens for plan, _ in columns]
    n_vision = max(sum(geometry.n_vision for geometry in geometries), 1)
    costs = [[flops_ratio(g, row) for g, row in zip(geometries, plan, strict=True)] for plan in tokens]
    means = [[mean_tokens_entering(row) for row in plan] for plan in tokens]
    return Replay(
        curves=tuple(tuple((plan.sum(axis=0) / n_vision).tolist()) for plan in tokens),
        right=right(scores[:, 1:], scores[:, 0]),
        agrees=np.array([np.array(said) == np.array(unpruned) for said in predictions]).T,
        flops_ratio=np.array(costs).T,
        mean_tokens=np.array(means).T,
        scores=scores[:, 1:],
    )


def as_it_is(pruner: Pruner) -> MeanBudget | None:
    """The sizing that opens as the pruner does and takes a shape for the curve itself."""
    return None if pruner.opening is None else MeanBudget(flops_ratio=1, scale=1.0, opening=pruner.opening)


def unpruned_scores(evaluator: ModelEvaluator) -> Float[np.ndarray, "samples"]:
    """What every sample scores with the model as it is."""
    return np.array(_scores(evaluator, answers(replace(evaluator, progress=False), None)))


def answers(evaluator: ModelEvaluator, pruner: Pruner | None, plan: Planned | None = None) -> list[str]:
    """The predictions of all samples, pruned along `plan` or, with None, unpruned; asked of the model once."""
    key = "" if pruner is None or plan is None else plan.key(pruner)
    if (known := evaluator.answered.get(key)) is not None:
        return known
    file = _file(evaluator, pruner, key)
    said = _read(file)
    if said is None:
        said = [row.prediction for row in evaluator.run(pruner).rows]
        _write(file, said)
    return evaluator.answered.setdefault(key, said)


def _column(evaluator: ModelEvaluator, pruner: Pruner) -> tuple[Planned, list[str]]:
    ready, bits = evaluator.calibrated(pruner), evaluator.complexities(pruner)
    plan = planned(ready, bits, evaluator.geometries)
    return plan, answers(evaluator, ready, plan)


def _scores(evaluator: ModelEvaluator, predictions: Sequence[str]) -> list[float]:
    task, samples = evaluator.prepared.task, evaluator.prepared.samples
    if evaluator.judge is not None:
        return [evaluator.judge(said, place) for place, said in enumerate(predictions)]
    return [task.score(said, sample) for said, sample in zip(predictions, samples, strict=True)]


def _file(evaluator: ModelEvaluator, pruner: Pruner | None, key: str) -> Path | None:
    """Named by a digest of all that the predictions depend on."""
    if evaluator.cache is None:
        return None
    parts: list[Any] = [] if pruner is None else [pruner.scorer, pruner.recovery, pruner.opening_scorer]
    sources = [code_of(part) for part in parts if part is not None]
    asked = [evaluator.cache.common, key, str(evaluator.prepared.task.max_new_tokens), *sources]
    return evaluator.cache.folder / f"answers-{hashlib.sha256(chr(0).join(asked).encode()).hexdigest()[:32]}.json"


def _read(file: Path | None) -> list[str] | None:
    try:
        return None if file is None else [str(said) for said in json.loads(file.read_text(encoding="utf-8"))]
    except OSError:
        return None


def _write(file: Path | None, said: Sequence[str]) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as half:
            half.write_text(json.dumps(said), encoding="utf-8")
