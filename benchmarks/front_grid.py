"""The true front of a space, by answering all of it: `nice python -m benchmarks.front_grid`.

The space is `benchmarks/conf/experiment/front_grid.yaml`: 2250 settings of two cuts and a scorer, each answered by the
embedded model on a few samples of each kind of the tune split (`task.per_kind`: 6, of the crowded scenes 4). What is
over the bound costs arithmetic, and has no score. Layers before a setting's first cut are run once for all settings
that share it, and plans that keep the same tokens are answered once, so that a setting takes about a quarter of a
second of one core. The tables lie in `benchmarks/data`, one row a setting, in the order of the space; they are written
every 50 settings, and the same command goes on from there.
"""

import argparse
import csv
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import GIB, batch_of, prepare
from autoprune_lab.pruner import Pruner
from policies.layerwise import LayerwisePolicy
from search.config.experiment import Experiment
from search.config.space import Space
from search.study.model_evaluator import ModelEvaluator
from search.study.planned import planned
from search.study.replay import answers

FOLDER = Path(__file__).parent
WORLDS = {"shapes": [], "dense": ["model=embedded_dense", "task=dense", "task.per_kind=4"]}
COST = "flops_ratio"
Row = dict[str, str]


def composed(world: str, *words: str) -> Experiment:
    """The grid's experiment in a world."""
    return Experiment.compose(["experiment=front_grid", *WORLDS[world], *words], [FOLDER / "conf"])


def table_of(world: str) -> Path:
    """Where its table lies."""
    return FOLDER / "data" / f"front-grid-{world}.csv"


def settings(space: Space) -> Iterator[dict[str, Any]]:
    """Every setting of the space, the last dimension first; numbers without the noise of adding steps."""
    values = [[round(v, 9) if isinstance(v, float) else v for v in d.grid(2)] for d in space.dimensions]
    for combination in itertools.product(*values):
        yield dict(zip((d.path for d in space.dimensions), combination, strict=True))


def answer(evaluator: ModelEvaluator, pruner: Pruner, bound: float) -> Mapping[str, float]:
    """FLOPs ratio, and where it is within the bound the score of each kind."""
    assert isinstance(pruner.policy, LayerwisePolicy)
    n_layers = evaluator.geometries[0].n_layers
    first_cut = round(pruner.policy.depths[0] * n_layers)
    pruner = replace(pruner, probe_layer=first_cut - 1)  # the same plan; layers up to the probe are run once for all
    plan = planned(pruner, np.zeros(len(evaluator.geometries)), evaluator.geometries)
    if plan.flops_ratio > bound:
        return {COST: plan.flops_ratio}
    task, samples = evaluator.prepared.task, evaluator.prepared.samples
    said = answers(evaluator, pruner, plan)
    scores: dict[str, list[float]] = {}
    for one, sample in zip(said, samples, strict=True):
        scores.setdefault(sample.kind, []).append(task.score(one, sample))
    return {COST: plan.flops_ratio} | {kind: float(np.mean(scores[kind])) for kind in sorted(scores)}


def read(file: Path) -> list[Row]:
    """The rows of a table, as text; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(file: Path, rows: list[Row]) -> None:
    """Atomically."""
    columns = list(max(rows, key=len))  # a setting over the bound has no kinds
    with atomic_write(file) as half, half.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def tabulate(world: str) -> None:
    """Answer what the table lacks."""
    experiment, file = composed(world), table_of(world)
    bound = experiment.bound.flops_ratio
    assert bound is not None
    vlm = experiment.model
    prepared = prepare(vlm, experiment.task)
    prepared = replace(prepared, batches=(batch_of(vlm, prepared.samples),))  # all at once: a few samples of each kind
    evaluator = ModelEvaluator(vlm, prepared, prefixes=Prefixes(vlm, prepared, GIB))
    rows = read(file)
    wanted = list(settings(experiment.space))
    for values in tqdm(wanted[len(rows) :], f"{world}: settings", initial=len(rows), total=len(wanted)):
        found = answer(evaluator, experiment.pruner(values), bound)
        rows.append({name: str(value) for name, value in (values | dict(found)).items()})
        if len(rows) % 50 == 0:
            write(file, rows)
    write(file, rows)


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    for world in parser.parse_args().worlds:
        tabulate(world)


if __name__ == "__main__":
    main()
