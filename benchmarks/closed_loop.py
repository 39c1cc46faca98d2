"""Does a pruned driver still drive, and does the open loop tell so? On the report splits.

    python -m benchmarks.closed_loop --out benchmarks/results/closed_loop.json --pictures docs/pictures

Every arm plans the scenes of the open loop and drives the episodes of the closed one; success with Wilson's 95 %
interval, differences to the unpruned model paired by episode. `--pictures` also draws open against closed loop, one
drive decision by decision, and the same drive as a GIF in which dropped patches are dark. All numbers are from the
embedded model.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from autoprune_lab.evaluation.evaluate import evaluate, read_complexities
from autoprune_lab.evaluation.film import film
from autoprune_lab.evaluation.prompts import PreparedTask, prepare
from autoprune_lab.fronts.direct_labels import label, part
from autoprune_lab.fronts.plot import MARKERS
from autoprune_lab.fronts.styles import COLOURS
from autoprune_lab.metrics.closed_loop import Drive, figures
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.selection.vla_pruner import ActionHistory, CombineThenFilter
from autoprune_lab.statistics.records import Records, wilson
from autoprune_lab.statistics.resampling import difference
from autoprune_lab.tasks.driving import DrivingTask
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask, drive_by_expert
from autoprune_lab.testbed.driving.render import VIEWS
from autoprune_lab.testbed.driving.scene import KINDS
from benchmarks.driving import points
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

UNPRUNED, EXPERT, NO_HISTORY = "unpruned", "the expert, no model", ", no history"
LATE = {"x0": 22.0}  # of 32 layers: the best midpoint in the open loop (docs/driving.md)
SHARES = (1.0, 2.0, 1.0)
SHOWN = ("driving_score", "route_completion", "collision_rate", "red_lights", "off_road", "short_ttc", "comfort",
         "gflops_per_second")  # fmt: skip


def arms(ratio: float, bits: np.ndarray, tune: PreparedTask) -> dict[str, Pruner]:
    """The pruners that are compared; `bits` and `tune` calibrate the one that spends unevenly."""
    budget = Budget(flops_ratio=ratio)
    adaptive = Pruner(LogisticAdaptivePolicy(**LATE), MeanBudget(flops_ratio=ratio))
    found = {
        "fixed, cut at layer 2": Pruner(FixedPolicy(2), budget),
        "per view, sides 1 : front 2": Pruner(FixedPolicy(2), budget, partial(per_view, shares=SHARES)),
        "random, cut at layer 2": Pruner(FixedPolicy(2), budget, scorers.random),
        "layerwise (pdrop)": Pruner(LayerwisePolicy(), budget),
        "logistic, adaptive in the mean": adaptive.calibrated(bits, tune.geometries),
    }
    for words, scorer in {"": scorers.prefill_attention, " by the last token": scorers.last_token_attention}.items():
        told = Pruner(FixedPolicy(2), budget, scorer, recovery=CombineThenFilter(ActionHistory(otherwise=scorer)))
        found[f"vla_pruner{words}"] = told
        found[f"vla_pruner{words}{NO_HISTORY}"] = replace(told, recovery=CombineThenFilter(scorer))
    return {f"{name}, {ratio}": pruner for name, pruner in found.items()}


@dataclass(frozen=True)
class Arm:
    """What one pruner did in both loops."""

    name: str
    opened: dict[str, float]
    closed: Records


@dataclass(frozen=True)
class Run:
    """A model in front of both loops, and a pruner."""

    vlm: VLM
    opened: PreparedTask
    closed: PreparedTask
    pruner: Pruner | None


def measured(run: Run, name: str) -> Arm:
    """Plan the scenes, then drive."""
    planned = run.opened.task.summary(evaluate(run.vlm, run.opened, run.pruner).rows)
    return Arm(name, dict(planned), evaluate(run.vlm, run.closed, run.pruner))


_RUNS: dict[str, Run] = {}  # what forked processes find


def _measured(name: str) -> Arm:
    return measured(_RUNS[name], name)


def row(arm: Arm, unpruned: Arm) -> dict[str, Any]:
    """One line of the table; shares in percent."""
    drives = [Drive.read(record.prediction) for record in arm.closed.rows]
    wins, theirs = (_successes(one) for one in (arm, unpruned))
    low, high = wilson(float(wins.mean()), wins.size)
    gap = difference(wins, theirs, [record.kind for record in arm.closed.rows])
    found = DrivingClosedLoopTask().summary(arm.closed.rows)
    assert all(drives)
    return {
        "": arm.name,
        "FLOPs": round(arm.closed.flops_ratio, 3),
        "l2_avg": round(arm.opened["l2_avg"], 3),
        "open collisions": round(100 * arm.opened["collision_rate"], 1),
        "success": round(100 * float(wins.mean()), 1),
        "95 %": f"{100 * low:.1f} to {100 * high:.1f}",
        "minus unpruned": points(gap),
        **{name: round(found[name], 3) for name in SHOWN},
        **{kind: round(100 * float(wins[0][_of(arm, kind)].mean()), 1) for kind in KINDS},
    }


def gains(found: dict[str, Arm]) -> list[dict[str, str]]:
    """What the history of an episode gains an arm in success, in points, paired by drive."""
    rows = []
    for name in found:
        if NO_HISTORY in name:
            arm, kinds = found[name.replace(NO_HISTORY, "")], [record.kind for record in found[name].closed.rows]
            gap = difference(_successes(arm), _successes(found[name]), kinds)
            rows.append({"": arm.name, "minus the same without history": points(gap)})
    return rows


def expert_row(task: DrivingClosedLoopTask) -> dict[str, Any]:
    """The expert on the same episodes."""
    found = figures([drive_by_expert(sample.id) for sample in task.samples()])
    shown = {name: round(found[name], 3) for name in SHOWN if name in found}
    return {"": EXPERT, "success": round(100 * found["success_rate"], 1), **shown}


def _successes(arm: Arm) -> np.ndarray:
    told = [Drive.read(record.prediction) for record in arm.closed.rows]
    return np.array([[drive is not None and drive.succeeds for drive in told]], dtype=float)


def _of(arm: Arm, kind: str) -> np.ndarray:
    return np.array([record.kind == kind for record in arm.closed.rows])


def draw_loops(rows: list[dict[str, Any]], file: Path) -> None:
    """Success in the closed loop against the open loop's distance, one point an arm."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for line, colour, marker in zip(rows, cycle(COLOURS), cycle(MARKERS), strict=False):
        low, high = (float(word) for word in line["95 %"].split(" to "))
        bars = [[max(line["success"] - low, 0.0)], [max(high - line["success"], 0.0)]]
        at = float(line["l2_avg"]), float(line["success"])
        axis.errorbar(*at, yerr=bars, fmt=marker, color=colour, capsize=2, markersize=6)
        label(axis, line[""], at, colour)
    axis.set(xlabel="open loop: L2 on average (m)", ylabel="closed loop: success (%)", ylim=(50, 102),
             title="embedded:driving-loop-s0, planning near the expert and driving, report split")  # fmt: skip
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()
    part(axis)
    figure.savefig(file, dpi=100, bbox_inches="tight")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:driving-loop-s0")
    parser.add_argument("--before", default="embedded:driving-s0", help="the model before it learned from drives")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.35])
    parser.add_argument("--per-kind", type=int, default=10, help="drives of each kind")
    parser.add_argument("--open-per-kind", type=int, default=25, help="samples of each kind in the open loop")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 2 and more change the time, not the figures")
    parser.add_argument("--film", default="report-crossing-0", help="the drive that is shown")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, and each has a core
    plans, task = DrivingTask("report", args.open_per_kind), DrivingClosedLoopTask("report", args.per_kind)
    vlm = load_model(args.model)
    opened, closed = (prepare(vlm, one, 60) for one in (plans, task))
    tune = prepare(vlm, DrivingClosedLoopTask("tune", 10), 60)
    bits = read_complexities(vlm, tune, Pruner(LogisticAdaptivePolicy(**LATE)))
    pruners: dict[str, Pruner | None] = {UNPRUNED: None}
    for ratio in args.ratios:
        pruners |= arms(ratio, bits, tune)
    runs = {name: Run(vlm, opened, closed, pruner) for name, pruner in pruners.items()}
    older, before = load_model(args.before), f"unpruned, {args.before}"
    runs[before] = Run(older, *(prepare(older, one, 60) for one in (plans, task)), None)
    _RUNS.update(runs)
    found, rows = dict[str, Arm](), list[dict[str, Any]]()
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("fork")) as pool:
        for arm in tqdm(pool.map(_measured, runs), desc="arms", total=len(runs)):
            found[arm.name] = arm
            rows.append(row(arm, found[UNPRUNED]))
            print(json.dumps(rows[-1]), flush=True)
    rows, others = rows[:-1], rows[-1:]
    pruned = rows[1:]
    ranks = spearmanr([line["l2_avg"] for line in pruned], [line["success"] for line in pruned]).statistic
    told = {"rank correlation of L2 and success, pruned arms": round(float(ranks), 2), "arms": len(pruned)}
    print(told)
    tables = {"arms": rows, "before": others, "expert": [expert_row(task)], "history": gains(found), "loops": [told]}
    if args.out:
        args.out.write_text(json.dumps({"model": args.model, "drives": len(closed.samples), **tables}, indent=1) + "\n")
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        draw_loops(rows, args.pictures / "driving-loops.png")
        shown = next(one for name, one in pruners.items() if one is not None and "adaptive" in name)
        drive = film(vlm, task, next(sample for sample in task.samples() if sample.id == args.film), shown)
        drive.plot(VIEWS).savefig(args.pictures / "driving-episode.png", dpi=90)
        drive.write_gif(args.pictures / "driving-episode.gif")


if __name__ == "__main__":
    main()
