"""Does the embedded driving model drive, how deep does it look, and does a budget per view help? On the report split.

    python -m benchmarks.driving --out benchmarks/results/driving-s0.json --pictures docs/pictures

Prints one table per question and writes them as JSON; `--pictures` also draws the views of one scene per kind with the
expert's and the model's waypoints, and the depth-of-need figure. All numbers are from the embedded model.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm import tqdm

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import PreparedTask, prepare
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner, Scorer
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.statistics.records import Record, Records
from autoprune_lab.statistics.resampling import Difference, difference
from autoprune_lab.tasks.base import Task
from autoprune_lab.tasks.driving import DrivingTask, moment, situation_of
from autoprune_lab.testbed.driving.blind import blind_answer
from autoprune_lab.testbed.driving.expert import judge
from autoprune_lab.testbed.driving.render import IMAGE_SIZE, VIEWS, project
from autoprune_lab.testbed.driving.scene import KINDS
from autoprune_lab.testbed.driving.wording import parse
from benchmarks.testbed import Evaluator, draw_depth, run_parts, write_tables
from policies.fixed import FixedPolicy

SHOWN = ("l2_1s", "l2_2s", "l2_3s", "l2_avg", "l2_to_avg", "collision_3s", "action_accuracy", "unreadable")
SHARES = {
    "front only": (0.0, 1.0, 0.0),
    "sides 1 : front 4": (1.0, 4.0, 1.0),
    "sides 1 : front 2": (1.0, 2.0, 1.0),
    "equal shares": (1.0, 1.0, 1.0),
    "sides 2 : front 1": (2.0, 1.0, 2.0),
    "sides only": (1.0, 0.0, 1.0),
}
Answer = Callable[[Record], str]


def figures(task: DrivingTask, rows: tuple[Record, ...], name: str) -> dict[str, Any]:
    """The official figures and the mean score, rounded."""
    found = task.summary(rows)
    score = np.mean([np.mean([r.score for r in rows if r.kind == kind]) for kind in KINDS])
    return {"": name, "score": round(float(score), 3)} | {key: round(found[key], 3) for key in SHOWN}


def answered(task: DrivingTask, rows: tuple[Record, ...], answer: Answer) -> tuple[Record, ...]:
    """The same samples with other answers."""
    samples = {sample.id: sample for sample in task.samples()}
    texts = [answer(row) for row in rows]
    return tuple(
        replace(row, prediction=text, score=task.score(text, samples[row.id]))
        for row, text in zip(rows, texts, strict=True)
    )


def quality(vlm: VLM, prepared: PreparedTask) -> tuple[pd.DataFrame, tuple[Record, ...]]:
    """The model as it is and without pictures, the best blind plan, and standing still; then the model kind by kind."""
    task = prepared.task
    assert isinstance(task, DrivingTask)
    rows = evaluate(vlm, prepared, progress=True).rows
    blind = evaluate(vlm, prepared, Pruner(FixedPolicy(layer=1, keep=0.0), probe_layer=0)).rows
    lines = [
        figures(task, rows, "the model"),
        figures(task, blind, "the model, pictures gone after layer 0"),
        figures(task, answered(task, rows, lambda row: blind_answer(situation_of(row.id))), "best blind plan"),
        figures(task, answered(task, rows, lambda row: "stop" + " 0.00 +0.00" * 6), "standing still"),
    ]
    for kind in KINDS:
        of_kind = tuple(row for row in rows if row.kind == kind)
        found = {key: round(value, 3) for key, value in task.summary(of_kind).items() if key in SHOWN}
        lines.append({"": kind, "score": round(float(np.mean([row.score for row in of_kind])), 3)} | found)
    return pd.DataFrame(lines), rows


def views(bench: Evaluator, ratio: float, layer: int) -> pd.DataFrame:
    """One cut at `layer`, the same FLOPs: shares of the views, and scorers that know no views.

    `gain`: points over the plain last_token_attention with its 95 % interval, paired by sample.
    """
    plain = "no shares, last_token_attention"
    scorers: dict[str, Scorer] = {name: partial(per_view, shares=shares) for name, shares in SHARES.items()}
    scorers |= {
        plain: scorers.last_token_attention,
        "no shares, text_attention": scorers.text_attention,
        "no shares, uniform": scorers.uniform,
        "no shares, random": scorers.random,
    }
    budget = Budget(flops_ratio=ratio)
    arms = tqdm(scorers.items(), desc=f"views at {ratio}")
    found = {n: evaluate(bench.vlm, bench.prepared, Pruner(FixedPolicy(layer), budget, s)) for n, s in arms}
    return pd.DataFrame([_view_row(bench.prepared.task, name, found[name], found[plain]) for name in found])


def points(gap: Difference) -> str:
    """'+1.7 (+0.1 to +3.3)', of fractions."""
    return f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def _view_row(task: Task, name: str, records: Records, plain: Records) -> dict[str, Any]:
    scores, others = (np.array([[row.score for row in run.rows]]) for run in (records, plain))
    gap = difference(scores, others, [row.kind for row in records.rows])
    kinds = {kind: round(100 * value, 1) for kind, value in records.by_kind().items()}
    collisions = round(100 * task.summary(records.rows)["collision_rate"], 1)
    return {"": name, **kinds, "mean": round(100 * records.score, 1), "gain": points(gap), "collisions": collisions}


def draw_scenes(rows: tuple[Record, ...], task: DrivingTask, folder: Path) -> None:
    """The three views of one scene per kind; the expert's waypoints as rings, the model's as crosses."""
    figure, axes = plt.subplots(len(KINDS), 3, figsize=(8.4, 18), layout="constrained")
    samples = {sample.id: sample for sample in task.samples()}
    for line, kind in zip(axes, KINDS, strict=True):
        row = next(row for row in rows if row.kind == kind and _telling(row.id))
        plan, expert = parse(row.prediction), parse(row.answers[0])
        situation = moment(row.id)[1]
        for axis, view, image in zip(line, VIEWS, samples[row.id].images, strict=True):
            axis.imshow(image, extent=(0, IMAGE_SIZE, IMAGE_SIZE, 0))
            for found, style in ((expert, {"marker": "o", "s": 50, "facecolors": "none", "edgecolors": "white"}),
                                 (plan, {"marker": "x", "s": 35, "c": "magenta"})):  # fmt: skip
                if found is not None:
                    axis.scatter(*project(view, np.column_stack([found[1], np.zeros(6)])).T, linewidths=1.5, **style)
            axis.set(xlim=(0, IMAGE_SIZE), ylim=(IMAGE_SIZE, 0), xticks=[], yticks=[])
            axis.set_title(view if kind == KINDS[0] else "", fontsize=10)
        said = plan[0] if plan else "no plan"
        told = f"{kind}: {situation.command} at {situation.speed} m/s"
        line[1].set_xlabel(f"{told}; expert (o): {expert[0] if expert else ''}, model (x): {said}", fontsize=10)
    figure.savefig(folder / "driving.png", dpi=80)


def _telling(sample_id: str) -> bool:
    """Does the car move, and is someone crossing where people cross?"""
    scene, situation = moment(sample_id)
    waits = judge(scene, situation.command).stop is not None
    return situation.speed > 2 and (waits or scene.kind != "crossing")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:driving-s0")
    parser.add_argument("--quality-per-kind", type=int, default=200)
    parser.add_argument("--per-kind", type=int, default=50)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    vlm = load_model(args.model)
    task = DrivingTask("report", args.quality_per_kind)
    tables = {}
    tables["quality"], rows = quality(vlm, prepare(vlm, task, 100))
    print(tables["quality"].to_string(index=False), "\n", flush=True)
    bench = Evaluator(vlm, prepare(vlm, DrivingTask("report", args.per_kind), 100))
    parts: dict[str, Callable[[], pd.DataFrame]] = {"depth": bench.depth}
    cuts = ((2, 0.35), (2, 0.25), (4, 0.5))
    parts |= {f"views at {ratio}, cut at layer {layer}": partial(views, bench, ratio, layer) for layer, ratio in cuts}
    parts["schedules at 0.35"] = partial(bench.schedules, 0.35)
    tables |= run_parts(parts)
    if args.out:
        write_tables(tables, args.out)
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        draw_scenes(rows, task, args.pictures)
        draw_depth(tables["depth"], args.pictures / "driving-depth.png", args.model)


if __name__ == "__main__":
    main()
