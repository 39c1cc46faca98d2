"""Does a pruned driver still drive in somebody else's simulator? Rides of highway-env, of the report split.

    python -m benchmarks.highway --out benchmarks/results/highway.json --pictures docs/pictures

Every arm drives the same rides; success with Wilson's 95 % interval, differences to the unpruned model paired by ride.
Beside them the expert, who goes by what the pictures show, and drivers who look at nothing. `--pictures` also draws
success against FLOPs, and one ride as a GIF in which dropped patches are dark. Needs autoprune-lab[highway]. All
numbers are from the embedded model.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from autoprune_lab.evaluation.evaluate import evaluate, read_decisions
from autoprune_lab.evaluation.film import film
from autoprune_lab.evaluation.prompts import PreparedTask, prepare
from autoprune_lab.fronts.plot import MARKERS
from autoprune_lab.fronts.styles import COLOURS
from autoprune_lab.metrics.highway import Ride, figures
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.statistics.records import Records, wilson
from autoprune_lab.statistics.resampling import difference
from autoprune_lab.tasks.highway import KINDS, HighwayTask, ridden, ride_by_expert
from benchmarks.driving import points
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

UNPRUNED, BLIND, FILMED = "unpruned", "the model, pictures gone after layer 0", "logistic, adaptive in the mean"
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
        "fixed, cut at layer 2": each(lambda ratio: Pruner(FixedPolicy(2), Budget(flops_ratio=ratio))),
        "random, cut at layer 2": each(lambda ratio: Pruner(FixedPolicy(2), Budget(flops_ratio=ratio), scorers.random)),
        "layerwise (pdrop)": each(lambda ratio: Pruner(LayerwisePolicy(), Budget(flops_ratio=ratio))),
        FILMED: each(adaptive),
    }


_RUNS: dict[str, tuple[VLM, PreparedTask, Pruner | None]] = {}  # what forked processes find


def _ridden(name: str) -> tuple[str, Records]:
    return name, evaluate(*_RUNS[name])


def row(name: str, arm: Records, unpruned: Records) -> dict[str, Any]:
    """One line of the table; shares in percent."""
    wins, theirs = (_successes(records) for records in (arm, unpruned))
    gap = difference(wins, theirs, [record.kind for record in arm.rows])
    found = HighwayTask().summary(arm.rows)
    by_kind = {kind: [float(w) for w, record in zip(wins[0], arm.rows, strict=True) if record.kind == kind]
               for kind in KINDS}  # fmt: skip
    return {
        "": name,
        "FLOPs": round(arm.flops_ratio, 3),
        **_success(wins),
        "minus unpruned": points(gap),
        **{figure: round(found[figure], 3) for figure in SHOWN},
        "GFLOPs a decision": round(found["gflops_per_decision"], 3),
        **{kind: round(100 * float(np.mean(won)), 1) for kind, won in by_kind.items()},
    }


def _always(action: str, names: Sequence[str]) -> list[Ride]:
    return [ridden(name, lambda _: action) for name in names]


def reference(name: str, rides: list[Ride]) -> dict[str, Any]:
    """A line of the table for who drives without a model."""
    found = figures(rides)
    wins = np.array([[ride.succeeds for ride in rides]], dtype=float)
    return {"": name, **_success(wins), **{figure: round(found[figure], 3) for figure in SHOWN}}


def _success(wins: np.ndarray) -> dict[str, Any]:
    low, high = wilson(float(wins.mean()), wins.size)
    return {"success": round(100 * float(wins.mean()), 1), "95 %": f"{100 * low:.1f} to {100 * high:.1f}"}


def _successes(records: Records) -> np.ndarray:
    told = [Ride.read(record.prediction) for record in records.rows]
    return np.array([[ride is not None and ride.succeeds for ride in told]], dtype=float)


def draw_front(rows: list[dict[str, Any]], file: Path) -> None:
    """Success against FLOPs, a line for every name; `rows` are those of `row`, the unpruned model first."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    names = dict.fromkeys(line[""].rsplit(", ", 1)[0] for line in rows[1:])
    for name, colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
        mine = [line for line in rows[1:] if line[""].startswith(name)]
        success = np.array([line["success"] for line in mine])
        low, high = np.array([[float(word) for word in line["95 %"].split(" to ")] for line in mine]).T
        bars = np.clip([success - low, high - success], 0, None)
        axis.errorbar([line["FLOPs"] for line in mine], success, yerr=bars, fmt=f"{marker}-", color=colour, capsize=2,
                      markersize=6, label=name)  # fmt: skip
    axis.axhline(rows[0]["success"], color="grey", linestyle=":", label=UNPRUNED)
    axis.set(xlabel="FLOPs, of the unpruned prefill", ylabel="success (%)", ylim=(-3, 103),
             title="embedded:highway-s0, rides of highway-env, report split")  # fmt: skip
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=100)


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
    names = [sample.id for sample in task.samples()]
    others = [reference("the expert, no model", [ride_by_expert(name) for name in names])]
    others += [reference(f"always {action}", _always(action, names)) for action in ALWAYS]
    print(*map(json.dumps, others), sep="\n")
    if args.out:
        tables = {"arms": rows, "unreachable": unreachable, "no model": others}
        args.out.write_text(json.dumps({"model": args.model, "rides": len(names), **tables}, indent=1) + "\n")
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        draw_front(rows[:-1], args.pictures / "highway-front.png")
        shown = next(sample for sample in task.samples() if sample.id == args.film)
        film(vlm, task, shown, pruners[FILMED][args.ratios[0]]).write_gif(args.pictures / "highway-ride.gif")


if __name__ == "__main__":
    main()
