"""Does a pruned driver still drive in somebody else's simulator? Rides of highway-env, of the report split.

    python -m benchmarks.highway --out benchmarks/results/highway.json --pictures docs/pictures

Every arm drives the same rides; success with Wilson's 95 % interval, differences to the unpruned model paired by ride.
Beside them the expert, who goes by what the pictures show, and drivers who look at nothing. `--pictures` also draws
one ride as a GIF in which dropped patches are dark. Needs autoprune-lab[highway]. All numbers are from the embedded
model.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from autoprune_lab.evaluation.evaluate import evaluate, read_decisions
from autoprune_lab.evaluation.film import film
from autoprune_lab.evaluation.prompts import PreparedTask, prepare
from autoprune_lab.metrics.highway import Ride, figures
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.statistics.records import Records, wilson
from autoprune_lab.statistics.resampling import difference
from autoprune_lab.tasks.base import Sample
from autoprune_lab.tasks.highway import KINDS, HighwayTask, expert, ridden
from autoprune_lab.testbed.highway.scene import Moment
from benchmarks.driving import points
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

UNPRUNED, BLIND, FILMED = "unpruned", "the model, pictures gone after layer 0", "fixed, cut at layer 2"
BATCH = 60
SHOWN = ("driving_score", "route_completion", "collision_rate", "short_ttc", "speed", "reward")
ALWAYS = ("IDLE", "SLOWER", "FASTER")
Arms = dict[str, dict[float, Pruner]]
"""Pruners by name, then by FLOPs ratio."""


def arms(ratios: list[float], bits: np.ndarray, geometries: Sequence[Geometry]) -> Arms:
    """The pruners that are compared; the decisions' `bits` and `geometries` calibrate the adaptive one."""

    def each(made: Callable[[float], Pruner]) -> dict[float, Pruner]:
        return {ratio: made(ratio) for ratio in ratios}

    def adaptive(ratio: float) -> Pruner:
        return Pruner(LogisticAdaptivePolicy(), MeanBudget(flops_ratio=ratio)).calibrated(bits, geometries)

    return {
        FILMED: each(lambda ratio: Pruner(FixedPolicy(2), Budget(flops_ratio=ratio))),
        "random, cut at layer 2": each(lambda ratio: Pruner(FixedPolicy(2), Budget(flops_ratio=ratio), scorers.random)),
        "layerwise (pdrop)": each(lambda ratio: Pruner(LayerwisePolicy(), Budget(flops_ratio=ratio))),
        "logistic, adaptive in the mean": each(adaptive),
    }


_RUNS: dict[str, tuple[VLM, PreparedTask, Pruner | None]] = {}  # what forked processes find


def _ridden(name: str) -> tuple[str, Records]:
    return name, evaluate(*_RUNS[name])


def row(name: str, arm: Records, unpruned: Records) -> dict[str, Any]:
    """One line of the table; shares in percent."""
    wins, theirs = (_successes(_rides(records)) for records in (arm, unpruned))
    kinds = [record.kind for record in arm.rows]
    return {
        "": name,
        "FLOPs": round(arm.flops_ratio, 3),
        "minus unpruned": points(difference(wins, theirs, kinds)),
        "GFLOPs a decision": round(HighwayTask().summary(arm.rows)["gflops_per_decision"], 3),
        **_figures(_rides(arm), kinds),
    }


def reference(name: str, decided: Callable[[Moment], str], samples: Sequence[Sample]) -> dict[str, Any]:
    """A line of the table for who drives without a model."""
    return {"": name, **_figures([ridden(one.id, decided) for one in samples], [one.kind for one in samples])}


def _figures(rides: Sequence[Ride], kinds: Sequence[str]) -> dict[str, Any]:
    wins, found = _successes(rides)[0], figures(rides)
    low, high = wilson(float(wins.mean()), wins.size)
    by_kind = {kind: wins[[one == kind for one in kinds]].mean() for kind in KINDS}
    return {
        "success": round(100 * float(wins.mean()), 1),
        "95 %": f"{100 * low:.1f} to {100 * high:.1f}",
        **{figure: round(found[figure], 3) for figure in SHOWN},
        **{kind: round(100 * float(share), 1) for kind, share in by_kind.items()},
    }


def _rides(records: Records) -> list[Ride]:
    told = [Ride.read(record.prediction) for record in records.rows]
    assert all(told)
    return [ride for ride in told if ride is not None]


def _successes(rides: Sequence[Ride]) -> np.ndarray:
    return np.array([[ride.succeeds for ride in rides]], dtype=float)


def without_model(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The expert, and who does always the same."""
    drivers: dict[str, Callable[[Moment], str]] = {"the expert, no model": expert}
    drivers |= {f"always {action}": partial(_always, action) for action in ALWAYS}
    return [reference(name, decided, samples) for name, decided in drivers.items()]


def _always(action: str, _: Moment) -> str:
    return action


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:highway-s0")
    parser.add_argument("--split", default="report", choices=["tune", "report"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.35, 0.25])
    parser.add_argument("--per-kind", type=int, default=20, help="rides of each kind")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 2 and more change the time, not the figures")
    parser.add_argument("--film", default="report-dense-0", help="the ride that is shown")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, and each has a core
    vlm, task = load_model(args.model), HighwayTask(args.split, args.per_kind)
    prepared, tune = prepare(vlm, task, BATCH), prepare(vlm, HighwayTask("tune", 10), BATCH)
    bits, geometries = read_decisions(vlm, tune, Pruner(LogisticAdaptivePolicy()))
    pruners, unreachable = arms(args.ratios, bits, geometries), dict[str, str]()
    _RUNS[UNPRUNED] = vlm, prepared, None
    for name, by_ratio in pruners.items():
        for ratio, pruner in by_ratio.items():
            try:
                pruner.plan(bits[:1], geometries[:1])
            except BudgetError as error:
                unreachable[f"{name}, {ratio}"] = str(error)
            else:
                _RUNS[f"{name}, {ratio}"] = vlm, prepared, pruner
    _RUNS[BLIND] = vlm, prepared, Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0)
    found, rows = dict[str, Records](), list[dict[str, Any]]()
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("fork")) as pool:
        for name, records in tqdm(pool.map(_ridden, _RUNS), desc="arms", total=len(_RUNS)):
            found[name] = records
            rows.append(row(name, records, found[UNPRUNED]))
            print(json.dumps(rows[-1]), flush=True)
    others = without_model(task.samples())
    print(*map(json.dumps, others), sep="\n")
    if args.out:
        tables = {"arms": rows, "unreachable": unreachable, "no model": others}
        args.out.write_text(
            json.dumps({"model": args.model, "rides": len(prepared.samples), **tables}, indent=1) + "\n"
        )
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        shown = next(sample for sample in task.samples() if sample.id == args.film)
        film(vlm, task, shown, pruners[FILMED][args.ratios[0]]).write_gif(args.pictures / "highway-ride.gif")


if __name__ == "__main__":
    main()
