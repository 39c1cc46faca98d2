"""Is the embedded model a pruning testbed? Depth of need, selection, schedules and cuts, on the report split.

    python -m benchmarks.testbed --out benchmarks/results/testbed-shapes-s0.json --pictures docs/pictures
    python -m benchmarks.testbed --world dense --model embedded:dense-s0 --out benchmarks/results/testbed-dense-s0.json

Prints one table per question and writes them as JSON; `--pictures` also draws one scene per kind, the depth-of-need
figure and the patches that one question keeps. All numbers are from the embedded models.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import PreparedTask, prepare, prompt_text
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.fronts.styles import COLOURS
from autoprune_lab.models.checkpoint import VLM, load_model
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.selection import scorers
from autoprune_lab.tasks.base import Task
from autoprune_lab.tasks.dense import DenseTask
from autoprune_lab.tasks.shapes import ShapesTask
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

SCORERS: dict[str, Callable[[Evidence], Tensor]] = {
    "last_token_attention": scorers.last_token_attention,
    "text_attention": scorers.text_attention,
    "cls_attention": scorers.cls_attention,
    "feature_norm": scorers.feature_norm,
    "uniform": scorers.uniform,
    "random": scorers.random,
}
SCHEDULES: dict[str, Policy] = {
    **{f"fixed, cut at layer {layer}": FixedPolicy(layer=layer) for layer in (2, 3, 4, 6, 8)},
    "layerwise, halved at 1/4, 1/2, 3/4": LayerwisePolicy(),
    "layerwise, halved at 1/8, 1/4, 1/2": LayerwisePolicy(depths=(0.125, 0.25, 0.5)),
    "logistic, midpoint 14.9 of 32": LogisticAdaptivePolicy(),
    "logistic, midpoint 8 of 32": LogisticAdaptivePolicy(x0=8.0),
    "logistic, midpoint 22 of 32": LogisticAdaptivePolicy(x0=22.0),
}
RATIOS = (0.5, 0.35, 0.25)
TASKS: dict[str, Callable[[str, int], Task]] = {"shapes": ShapesTask, "dense": DenseTask}


@dataclass(frozen=True)
class Evaluator:
    """One model on one set of samples."""

    vlm: VLM
    prepared: PreparedTask

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return self.prepared.geometries[0].n_layers

    def row(self, name: str, pruner: Pruner | None) -> dict[str, float | str]:
        """Accuracy in percent per kind and on average, and the FLOPs ratio."""
        records = evaluate(self.vlm, self.prepared, pruner)
        scores = {kind: round(100 * value, 1) for kind, value in records.by_kind().items()}
        return {
            "": name,
            **scores,
            "mean": round(100 * records.score, 1),
            "FLOPs": round(records.flops_ratio, 3),
        }

    def quality(self) -> pd.DataFrame:
        """Unpruned accuracy with 95 % intervals."""
        records = evaluate(self.vlm, self.prepared, progress=True)
        rows = [
            {"": kind, "accuracy": round(100 * score, 1), "95 %": _percent(records.interval(kind))}
            for kind, score in records.by_kind().items()
        ]
        mean = {"": "mean", "accuracy": round(100 * records.score, 1), "95 %": _percent(records.interval())}
        return pd.DataFrame([*rows, mean])

    def depth(self) -> pd.DataFrame:
        """All visual tokens go after K layers, for every K."""
        rows = [
            self.row(f"K={k}", Pruner(FixedPolicy(layer=k, keep=0.0), probe_layer=min(k - 1, 1)))
            for k in tqdm(range(1, self.n_layers), desc="depth of need")
        ]
        return pd.DataFrame([*rows, self.row("all layers", None)])

    def selection(self, layer: int) -> pd.DataFrame:
        """A quarter of the tokens stays from `layer` on, chosen by each scorer."""
        policy = FixedPolicy(layer=layer, keep=0.25)
        return pd.DataFrame(
            [self.row(name, Pruner(policy, scorer=scorer)) for name, scorer in tqdm(SCORERS.items(), desc="selection")]
        )

    def schedules(self, ratio: float) -> pd.DataFrame:
        """Every schedule scaled to the same FLOPs ratio; those that cannot get there say so."""
        rows = []
        for name, policy in tqdm(SCHEDULES.items(), desc=f"schedules at {ratio}"):
            try:
                rows.append(self.row(name, Pruner(policy, Budget(flops_ratio=ratio))))
            except BudgetError:
                rows.append({"": name + " (out of reach)"})
        return pd.DataFrame(rows)

    def cuts(self, ratio: float) -> pd.DataFrame:
        """The logistic schedules with at most so many cuts, at one FLOPs ratio."""
        names = [name for name in SCHEDULES if name.startswith("logistic")]
        arms = [(f"{name}, max_cuts={most}", SCHEDULES[name], most) for name in names for most in (None, 6, 4, 3, 2, 1)]
        budget = Budget(flops_ratio=ratio)
        return pd.DataFrame(
            [self.row(name, Pruner(policy, budget, max_cuts=most)) for name, policy, most in tqdm(arms, desc="cuts")]
        )


def _percent(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def draw_kinds(task: Task, file: Path) -> None:
    """Every sample with its question and answer, in two rows."""
    samples = task.samples()
    columns = -(-len(samples) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(3.25 * columns, 8.4), layout="constrained")
    for axis, sample in zip(axes.flat, samples, strict=True):
        axis.imshow(sample.images[0])
        axis.set_title(sample.kind, fontweight="bold")
        words = sample.question.split()
        lines = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
        axis.set_xlabel("\n".join([*lines, f"→ {sample.answers[0]}"]), fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(file, dpi=110)


def draw_depth(table: pd.DataFrame, file: Path, model: str) -> None:
    """The score, in percent, against the layer after which all visual tokens go; kinds in the order of their need."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    kinds = table[[name for name in table.columns if name not in ("", "mean", "FLOPs")]]
    for i, kind in enumerate(kinds.sum().sort_values(ascending=False).index):
        look = {"color": COLOURS[i % len(COLOURS)], "marker": "osD^vP*X<>"[i], "markersize": 5}
        face = look["color"] if i < len(COLOURS) else "none"
        axis.plot(range(1, len(table) + 1), kinds[kind], markerfacecolor=face, linewidth=1.5, label=kind, **look)
    axis.set(xlabel="layers that see the picture", ylabel="score (%)")
    axis.set_title(f"depth of need, {model}, report split", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(file, dpi=110)


def draw_patches(vlm: VLM, task: Task, file: Path) -> None:
    """Which patches the last sample, a question of three hops, keeps in three stages, and what was asked."""
    sample = task.samples()[-1]
    inputs = vlm.processor(text=[prompt_text(vlm.processor, sample)], images=list(sample.images), return_tensors="pt")
    pruner = Pruner(LayerwisePolicy(depths=(0.25, 0.5, 0.75), keep=(0.5, 0.25, 0.1)))
    with torch.no_grad(), pruner.attach(vlm.model, keep_indices=True) as trace:
        answer = vlm.model.generate(**inputs, max_new_tokens=4)[0, inputs["input_ids"].shape[1] :]
    figure = trace.plot(sample.images)
    words = vlm.processor.decode(answer, skip_special_tokens=True)
    figure.suptitle(f"{sample.question} → {words}", fontsize=10)
    figure.savefig(file, dpi=110)


def run_parts(parts: Mapping[str, Callable[[], pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Every part's table, printed as soon as it is there."""
    tables = {}
    for name, part in parts.items():
        tables[name] = part()
        print(f"\n{name}\n{tables[name].to_string(index=False)}\n", flush=True)
    return tables


def write_tables(tables: Mapping[str, pd.DataFrame], file: Path) -> None:
    """All tables as JSON, rows by the tables' names."""
    file.write_text(json.dumps({name: table.to_dict("records") for name, table in tables.items()}, indent=1))


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=TASKS, default="shapes")
    parser.add_argument("--model", help="a checkpoint of that world (default: embedded:WORLD-s0)")
    parser.add_argument("--quality-per-kind", type=int, default=500)
    parser.add_argument("--per-kind", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    model = args.model or f"embedded:{args.world}-s0"
    vlm, task = load_model(model), TASKS[args.world]
    tables = {"quality": Evaluator(vlm, prepare(vlm, task("report", args.quality_per_kind), args.batch_size)).quality()}
    print(tables["quality"].to_string(index=False), "\n")
    bench = Evaluator(vlm, prepare(vlm, task("report", args.per_kind), args.batch_size, progress=True))
    parts = {
        "depth": bench.depth,
        f"selection at layer {bench.n_layers // 3}": lambda: bench.selection(bench.n_layers // 3),
    }
    parts |= {f"schedules at {ratio}": lambda ratio=ratio: bench.schedules(ratio) for ratio in RATIOS}
    parts["cuts at 0.35"] = lambda: bench.cuts(0.35)
    tables |= run_parts(parts)
    if args.out:
        write_tables(tables, args.out)
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        mark = "" if args.world == "shapes" else f"{args.world}-"
        draw_kinds(task("report", 1), args.pictures / f"{mark}kinds.png")
        draw_depth(tables["depth"], args.pictures / f"{mark}depth.png", model)
        draw_patches(vlm, task("report", 1), args.pictures / f"{mark}patches.png")


if __name__ == "__main__":
    main()
