"""Pruned prefills against the unpruned one and against their floors, and where the difference goes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evaluation.timing import Seconds, interleaved, stopwatch
from autoprune_lab.evidence.evidence import Evidence, tower_layers_of
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.trace.sample import SampleTrace
from benchmarks.timing import Context, Workload, sliced
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

VISION = 576
"""Budgets are given for this many visual tokens and grow with them: 64 of 576 are 320 of 2880."""


def pruners(n_layers: int, n_vision: int, mean_tokens: int) -> dict[str, Pruner]:
    """The shelf's policies with the default scorer, pruning from an early layer on: 1 of 16, 2 of 32."""
    first = n_layers // 16
    logistic = LogisticAdaptivePolicy()
    policies = {
        "fixed": (FixedPolicy(layer=first), 1),
        "layerwise": (LayerwisePolicy((1 / 16, 3 / 16, 15 / 32), (0.5, 0.2, 0.1)), 3),
        "logistic": (logistic, None),
        "logistic, 4 cuts": (logistic, 4),
    }
    budget = Budget(mean_tokens=mean_tokens * n_vision / VISION)
    return {
        f"{name} {mean_tokens}": Pruner(policy, budget, probe_layer=first - 1, max_cuts=max_cuts)
        for name, (policy, max_cuts) in policies.items()
    }


def compare_arms(workload: Workload, arms: dict[str, Pruner], rounds: int) -> list[dict[str, Any]]:
    """One row an arm, the unpruned one first; all of them and their floors take turns."""
    looks = [workload.look(pruner) for pruner in arms.values()]
    contexts: list[Context] = [nullcontext]
    for pruner, (widths, _) in zip(arms.values(), looks, strict=True):
        contexts += [partial(pruner.attach, workload.model), partial(sliced, workload.model, widths)]
    seconds = interleaved([partial(workload.seconds, context) for context in contexts], rounds)
    rows = [{"arm": "unpruned", **_taken(seconds[:, 0]), "peak_gib": workload.peak_gib(nullcontext)}]
    for i, (name, pruner) in enumerate(arms.items()):
        (widths, samples), arm = looks[i], 2 * i + 1
        rows.append(
            {"arm": name, "cuts": int((np.diff(widths) < 0).sum()), **_taken(seconds[:, arm])}
            | _ratios(seconds[..., 0], arm, samples)
            | _shares(workload, pruner, samples, float(np.median(seconds[:, arm, 0])))
            | {"peak_gib": workload.peak_gib(contexts[arm])}
        )
    return rows


def _taken(seconds: Float[np.ndarray, "rounds 2"]) -> dict[str, Any]:
    return {**_quartiles("ms", 1e3 * seconds[:, 0]), "wall_ms": 1e3 * float(np.median(seconds[:, 1]))}


def _quartiles(name: str, values: Float[np.ndarray, "rounds"]) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {name: median, f"{name}_q1": low, f"{name}_q3": high}


def _ratios(seconds: Float[np.ndarray, "rounds runs"], arm: int, samples: Sequence[SampleTrace]) -> dict[str, Any]:
    """Time against the unpruned run (the first) and against the arm's floor (the next), and FLOPs."""
    time = float(np.median(seconds[:, arm] / seconds[:, 0]))
    flops = float(np.mean([sample.flops_ratio for sample in samples]))
    return {
        "time_ratio": time,
        "flops_ratio": flops,
        "time_over_flops": time / flops,
        **_quartiles("over_floor_percent", 100 * (seconds[:, arm] / seconds[:, arm + 1] - 1)),
    }


def _shares(workload: Workload, pruner: Pruner, samples: Sequence[SampleTrace], prefill: float) -> dict[str, float]:
    """What scoring and planning take of a prefill of `prefill` seconds, in percent."""
    spent = {"scoring": scoring_seconds(workload, pruner), "planning": planning_seconds(workload, pruner, samples)}
    return {f"{name}_percent": 100 * float(seconds[0]) / prefill for name, seconds in spent.items()}


def scoring_seconds(workload: Workload, pruner: Pruner, repeats: int = 3) -> Seconds:
    """What scorer and complexity take of one prefill, the attention rows that they ask for included."""
    total = np.zeros(2)

    def watched(function: Callable[[Evidence], Tensor]) -> Callable[[Evidence], Tensor]:
        def call(evidence: Evidence) -> Tensor:
            with stopwatch(workload.model.device) as spent:
                result = function(evidence)
            total[:] += spent
            return result

        call.tower_layers = tower_layers_of(function)  # type: ignore[attr-defined]
        return call

    spy = replace(pruner, scorer=watched(pruner.scorer), complexity=watched(pruner.complexity))
    for _ in range(repeats):
        workload.seconds(partial(spy.attach, workload.model))
    return total / repeats


def planning_seconds(workload: Workload, pruner: Pruner, samples: Sequence[SampleTrace], repeats: int = 20) -> Seconds:
    """What one `Pruner.plan` takes."""
    bits = np.array([sample.complexity or 0.0 for sample in samples])
    geometries = [sample.geometry for sample in samples]
    with stopwatch(workload.model.device) as spent:
        for _ in range(repeats):
            pruner.plan(bits, geometries)
    return spent / repeats
