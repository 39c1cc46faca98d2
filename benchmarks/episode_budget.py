r"""Does a mean budget over episodes pay, calm stretches spending less and crossings more? Against an even spending.

    autoprune calibrate task=driving model=embedded_driving_loop complexity=needed_depth policy=staircase_blend \
        scorer=last_token_attention task.per_kind=20 calibration.depths=7 calibration.fractions=[0.5] \
        --out mine/complexity/depth.yaml
    python -m benchmarks.episode_budget --depth mine/complexity/depth.yaml --out benchmarks/results/episode_budget.json

One cut at layer 2; how many tokens stay behind it follows a number of the decision, in either direction, between a
quarter and the whole of what the richest get. The budget holds in the mean over all decisions of tune drives. Which
number and direction is chosen on tune drives by the driving score; the report drives are driven once: by the chosen
one, by its twin that spends the same FLOPs evenly, and by the chosen one told numbers of other decisions, which spends
as unevenly but on nothing; all paired. All numbers are from the embedded model.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evaluation.evaluate import evaluate, read_decisions
from autoprune_lab.evaluation.prompts import PreparedTask, prepare
from autoprune_lab.evidence.complexity import mutual_information
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.metrics.closed_loop import Drive
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.statistics.records import Records, wilson
from autoprune_lab.statistics.resampling import difference
from autoprune_lab.tasks.driving_closed_loop import DrivingClosedLoopTask
from benchmarks.driving import points
from policies.fixed import FixedPolicy
from policies.staircase_blend import StaircaseBlendPolicy
from search.config.experiment import Experiment

LAYER = 2  # the cut: the best of one cut in the open loop (docs/driving.md)
LAYERS = 12
POOR = 0.25  # of what the richest decisions keep behind the cut
ENDS = (0.1, 0.9)  # quantiles of the number between which a decision's share moves
EVEN, SHUFFLED = "even", "told numbers of other decisions"
SPARSE, DENSE = "more where it is low", "more where it is high"


@dataclass(frozen=True)
class Seen:
    """Decisions of tune drives: a number of each, and its prompt's sizes."""

    bits: np.ndarray
    geometries: Any


def estimators(depth: Path | None) -> dict[str, Any]:
    """The numbers that are tried; `depth`: what `autoprune calibrate complexity=needed_depth --out` wrote."""
    found: dict[str, Any] = {"mutual information": mutual_information}
    if depth is not None:
        composed = Experiment.compose(["policy=staircase_blend", f"complexity={depth.stem}"], [depth.parents[1]])
        found["needed depth"] = composed.pruner().complexity
    return found


@dataclass
class Shuffled:
    """Says numbers of decisions that were seen, drawn without looking."""

    bits: np.ndarray
    rng: np.random.Generator

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch"]:
        """One number a sample, in the unit of the number that is drawn."""
        return torch.from_numpy(self.rng.choice(self.bits, len(evidence.index)))


def spender(estimator: Any, seen: Seen, direction: str, ratio: float) -> Pruner:
    """One cut, its share moving with the number; calibrated on the decisions that were seen."""
    low, high = np.quantile(seen.bits, ENDS)
    keep = ((1.0,), (POOR,)) if direction == SPARSE else ((POOR,), (1.0,))
    policy = StaircaseBlendPolicy(float(low), float(high), ((LAYER / LAYERS,),) * 2, keep)
    pruner = Pruner(policy, MeanBudget(flops_ratio=ratio), complexity=estimator)
    return pruner.calibrated(seen.bits, seen.geometries)


@dataclass(frozen=True)
class Run:
    """A model in front of drives, and a pruner."""

    vlm: VLM
    drives: PreparedTask
    pruner: Pruner


_RUNS: dict[str, Run] = {}  # what forked processes find


def _driven(name: str) -> Records:
    run = _RUNS[name]
    return evaluate(run.vlm, run.drives, run.pruner)


def driven(runs: Mapping[str, Run], jobs: int) -> dict[str, Records]:
    """What every run gave."""
    _RUNS.update(runs)
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        return dict(zip(runs, pool.map(_driven, runs), strict=True))


def successes(records: Records) -> np.ndarray:
    """1 for a drive that succeeds, (1, drives)."""
    drives = [Drive.read(row.prediction) for row in records.rows]
    return np.array([[drive is not None and drive.succeeds for drive in drives]], dtype=float)


def row(name: str, records: Records) -> dict[str, Any]:
    """One line of a table; shares in percent."""
    wins = float(successes(records).mean())
    low, high = wilson(wins, len(records.rows))
    found = DrivingClosedLoopTask().summary(records.rows)
    return {
        "": name,
        "FLOPs": round(records.flops_ratio, 4),
        "success": round(100 * wins, 1),
        "95 %": f"{100 * low:.1f} to {100 * high:.1f}",
        "driving_score": round(found["driving_score"], 3),
        "collision_rate": round(found["collision_rate"], 3),
        "off_road": round(found["off_road"], 3),
    }


def gap(left: Records, right: Records, kinds: Sequence[str]) -> dict[str, str]:
    """What the left one is worth more, in points, paired by drive, with 95 % intervals."""
    return {
        "success": points(difference(successes(left), successes(right), kinds)),
        "driving score": points(difference(left.by_sample[None], right.by_sample[None], kinds)),
    }


def by_kind(records: Records) -> list[dict[str, Any]]:
    """Of each kind of drive the number, the FLOPs ratio, success and driving score, means over drives."""
    rows = []
    for kind in records.scores:
        mine = Records(tuple(one for one in records.rows if one.kind == kind), records.seconds)
        numbers = [one.complexity for one in mine.rows if one.complexity is not None]
        told = {"number": round(float(np.mean(numbers)), 3)} if numbers else {}
        wins = 100 * float(successes(mine).mean())
        score = round(mine.score, 3)
        rows.append({"": kind, **told, "FLOPs": round(mine.flops_ratio, 4), "success": round(wins, 1), "score": score})
    return rows


def main() -> None:
    """Choose on tune drives, drive the report's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:driving-loop-s0")
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--tune", type=int, default=4, help="drives of each kind to choose on")
    parser.add_argument("--report", type=int, default=17, help="drives of each kind to compare on")
    parser.add_argument("--depth", type=Path, help="a calibrated needed_depth, as a configuration")
    parser.add_argument("--jobs", type=int, default=1, help="processes; 2 and more change the time, not the figures")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, and each has a core
    vlm = load_model(args.model)
    tune = prepare(vlm, DrivingClosedLoopTask("tune", args.tune), 60)
    report = prepare(vlm, DrivingClosedLoopTask("report", args.report), 60)
    even = Pruner(FixedPolicy(LAYER), Budget(flops_ratio=args.ratio))
    candidates, known = {EVEN: even}, dict[str, Seen]()
    for name, estimator in estimators(args.depth).items():
        reader = Pruner(StaircaseBlendPolicy(), complexity=estimator)
        seen = Seen(*read_decisions(vlm, tune, reader))
        print(
            f"{name}: {seen.bits.size} decisions, quantiles {np.quantile(seen.bits, [0, *ENDS, 1]).round(4)}",
            flush=True,
        )
        for way in (SPARSE, DENSE):
            known[f"{name}, {way}"] = seen
            candidates[f"{name}, {way}"] = spender(estimator, seen, way, args.ratio)
    tried = driven({f"tune {name}": Run(vlm, tune, one) for name, one in candidates.items()}, args.jobs)
    tuned = [row(name, records) for name, records in zip(candidates, tried.values(), strict=True)]
    print(json.dumps(tuned, indent=1), flush=True)
    scores = {name: records.score for name, records in zip(candidates, tried.values(), strict=True) if name != EVEN}
    chosen = max(scores, key=lambda name: scores[name])
    played = driven({chosen: Run(vlm, report, candidates[chosen])}, 1)
    blind = replace(candidates[chosen], complexity=Shuffled(known[chosen].bits, np.random.default_rng(0)))
    twin = replace(even, budget=Budget(flops_ratio=played[chosen].flops_ratio))
    played |= driven({EVEN: Run(vlm, report, twin), SHUFFLED: Run(vlm, report, blind)}, args.jobs)
    kinds = [one.kind for one in report.samples]
    found = {
        "model": args.model,
        "drives": len(report.samples),
        "tune": tuned,
        "report": [row(name, records) for name, records in played.items()],
        f"{chosen}, minus": {other: gap(played[chosen], played[other], kinds) for other in (EVEN, SHUFFLED)},
        "by kind": {name: by_kind(records) for name, records in played.items()},
    }
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
