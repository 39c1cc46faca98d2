"""Records the embedded model's objective once, so that searches can be compared without the model.

    nice python -m benchmarks.tabulate --points 200 --out benchmarks/data/objective-shapes-s0.npz

A quasi-random design over the default study's space (logistic policy, budget, scorer): every setting within reach
answers the whole tune split. Stored are, per setting, the mean planned tokens of each layer and one bit a sample:
right or wrong.
About 4 s a setting on one core; written every 20 settings, and the same command goes on from there.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.schedule.budget import BudgetError
from search.config.experiment import Experiment
from search.study.model_evaluator import open_evaluator

SCORER = "pruner.scorer._target_"


@dataclass
class Recording:
    """One row a setting that ran: its number in the design, tokens per layer, scorer's name, right answers."""

    numbers: list[int] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    scorers: list[str] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Recording":
        """What an earlier run wrote; empty where there is none."""
        if not file.is_file():
            return cls()
        with np.load(file) as stored:
            names = ("numbers", "tokens", "scorers", "right")
            return cls(*(list(stored[name]) for name in names))

    def write(self, file: Path, samples: dict[str, Any]) -> None:
        """Atomically, beside what `samples` says of the task."""
        arrays = {name: np.asarray(value) for name, value in vars(self).items()}
        with atomic_write(file) as half, half.open("wb") as stream:
            np.savez_compressed(stream, **arrays, **samples)


def tabulate(points: int, out: Path) -> None:
    """Run the design's first `points` settings; those that their budget refuses cost nothing and leave no row."""
    experiment = Experiment.compose(["policy=logistic_adaptive", "batch_size=50"])
    opened = open_evaluator(experiment.model, experiment.task, experiment.typed)
    bits = opened.complexities(experiment.pruner())
    sizes = np.array([(geometry.n_vision, geometry.n_text) for geometry in opened.geometries])
    samples = {"bits": bits, "sizes": sizes, "kinds": [sample.kind for sample in opened.prepared.samples]}
    recording = Recording.read(out)
    known = set(recording.numbers)
    design = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=0))
    for number in tqdm(range(points), unit="setting"):
        trial = design.ask()
        values = experiment.space.suggest(trial)
        design.tell(trial, 0.0)
        pruner = experiment.pruner(values)
        if number in known:
            continue
        try:
            tokens = pruner.plan(bits, opened.geometries).tokens
        except BudgetError:
            continue
        right = [row.score == 1 for row in opened.run(pruner).rows]
        recording.numbers.append(number)
        recording.tokens.append(tokens.mean(0).astype(np.float32))
        recording.scorers.append(str(values[SCORER]))
        recording.right.append(np.packbits(right))
        if len(recording.numbers) % 20 == 0:
            recording.write(out, samples)
    recording.write(out, samples)


def main() -> None:
    """Record, or go on recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/data/objective-shapes-s0.npz"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    tabulate(given.points, given.out)


if __name__ == "__main__":
    main()
