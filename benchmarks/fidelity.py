"""How much sooner is a front found where futile trials are ended? `python -m benchmarks.fidelity`.

    python -m benchmarks.fidelity --out benchmarks/results/fidelity.json

The default study's space on the recorded answers of the embedded model (`benchmarks.recorded`), sample by sample: a
sample is answered right where that is likelier than not among the nearest recorded plans. The objective is that of
`autoprune study`; what is counted is model time, in samples answered. *to 99 %*: samples until the front has 99 % of
the hypervolume (left of FLOPs ratio 0.5, above score 0) that the study without `search.least_gain` of the same seed
ends with, in whole trials: the median over the seeds. *x*: so many times fewer, the ratio of the sums over the seeds.

*clairvoyant*: the studies without it, had each trial that added nothing to the hypervolume ended after one block.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from tqdm import tqdm

from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.geometry import Geometry
from benchmarks.problems import BOUND, DATA, Default, found
from benchmarks.recorded import Recorded
from search.study.evaluator import AfterBlock, Prompts
from search.study.futility import FIRST
from search.study.objective import Objective
from search.study.planned import planned
from search.study.trials import STOPPED

WHOLE = "whole trials"
CLAIRVOYANT = "clairvoyant"
GOAL = 0.99  # of the hypervolume
BLOCKS = 20


def _words(least_gain: float, blocks: int = BLOCKS) -> list[str]:
    return [f"search.least_gain={least_gain}", f"search.blocks={blocks}"]


ARMS: dict[str, list[str]] = {
    WHOLE: ["search=tpe"],
    "least_gain=0": ["search=tpe", *_words(0)],
    "least_gain=0.0003": ["search=tpe", *_words(0.0003)],
    "least_gain=0.001": ["search=tpe", *_words(0.001)],
    "ehvi, then tpe": ["search=ehvi_then_tpe"],
    "ehvi, then tpe, least_gain=0.0003": ["search=ehvi_then_tpe", *_words(0.0003)],
    "ehvi": ["search=ehvi"],
    "ehvi, least_gain=0.0003": ["search=ehvi", *_words(0.0003)],
}


@dataclass(frozen=True, eq=False)
class Right:
    """Answers, right or wrong, to the samples at some places."""

    by_sample: Float[np.ndarray, "answered"]
    labels: np.ndarray
    flops_ratio: float

    @property
    def score(self) -> float:
        """Mean over the kinds."""
        return float(np.mean(list(self.by_kind().values())))

    def by_kind(self) -> Mapping[str, float]:
        """Score of each kind."""
        return {kind: float(self.by_sample[self.labels == kind].mean()) for kind in dict.fromkeys(self.labels)}


@dataclass(frozen=True)
class Answered:
    """A block of samples."""

    number: int
    is_last: bool
    outcome: Right
    so_far: Right


@dataclass
class Replayed:
    """An evaluator without a model, of recorded answers; counts the samples that it was asked."""

    recorded: Recorded
    n_answered: int = 0
    blocks: Sequence[int] = field(default_factory=list)

    closed_loop = False

    @property
    def geometries(self) -> Sequence[Geometry]:
        """As they were recorded."""
        return self.recorded.geometries

    @property
    def kinds(self) -> Sequence[str]:
        """As they were recorded."""
        return self.recorded.labels

    def deal(self, blocks: Sequence[int]) -> None:
        """See `search.study.evaluator.Evaluator`."""
        self.blocks = blocks

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """As they were read from the model."""
        return self.recorded.complexities(pruner)

    def prompts(self, pruner: Pruner) -> Prompts:
        """As they were read from the model."""
        return self.recorded.prompts(pruner)

    def run(self, pruner: Pruner, after_block: AfterBlock | None = None) -> Right:
        """The answers of the nearest plans."""
        plan = planned(pruner, self.complexities(pruner), self.geometries)
        answers = self.recorded.answers(plan.plan.tokens.mean(0), plain(pruner)["scorer"]["_target_"])
        labels, whole = np.array(self.kinds), len(self.kinds)
        blocks = np.array(self.blocks) if after_block is not None else np.zeros(whole, dtype=int)

        def of(places: np.ndarray) -> Right:
            return Right(answers[places], labels[places], plan.flops_ratio)

        for number in range(int(blocks.max()) + 1):
            self.n_answered += int((blocks == number).sum())
            if after_block is not None:
                is_last = number == blocks.max()
                after_block(Answered(number, is_last, of(blocks == number), of(blocks <= number)))
        return of(blocks >= 0)

    def figures(self, outcome: object) -> Mapping[str, float]:
        """None."""
        return {}

    def latency(self, pruner: Pruner) -> float:
        """Not recorded."""
        raise NotImplementedError


def one_study(recorded: Recorded, words: Sequence[str], seed: int, n_trials: int) -> dict[str, Any]:
    """Hypervolume and samples answered after every trial; how many trials were stopped."""
    experiment = Default().experiment(f"seed={seed}", *words)
    evaluator = Replayed(recorded)
    objective = Objective.of(experiment, evaluator)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for baseline in experiment.baselines:
        study.enqueue_trial(baseline)
    answered = []
    for done in range(n_trials):
        study.sampler = experiment.sampler(done)
        study.optimize(objective, n_trials=1)
        answered.append(evaluator.n_answered)
    fronts = [found(study, n + 1) for n in range(n_trials)]
    return {
        "hypervolume": [round(front.hypervolume(reference_cost=BOUND), 6) for front in fronts],
        "answered": answered,
        "stopped": sum(STOPPED in trial.user_attrs for trial in study.get_trials(deepcopy=False)),
    }


def clairvoyant(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same study, had what added nothing ended after its first block."""
    whole = np.diff([0, *row["answered"]])
    useful = np.diff([0.0, *row["hypervolume"]]) > 0
    useful[np.flatnonzero(whole)[:FIRST]] = True
    return {
        "hypervolume": row["hypervolume"],
        "answered": np.where(useful, whole, whole / BLOCKS).cumsum().tolist(),
        "stopped": int((~useful & (whole > 0)).sum()),
    }


def until(row: Mapping[str, Any], goal: float) -> float:
    """Samples answered until the hypervolume is that large; all of them where it never is."""
    reached = np.flatnonzero(np.array(row["hypervolume"]) >= goal)
    return float(row["answered"][reached[0] if len(reached) else -1])


def summarise(rows: Sequence[Mapping[str, Any]], n_samples: int) -> list[dict[str, Any]]:
    """One line an arm."""
    by_arm = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in ARMS}
    base = by_arm[WHOLE]
    by_arm[CLAIRVOYANT] = {seed: clairvoyant(row) for seed, row in base.items()}
    goals = {seed: GOAL * row["hypervolume"][-1] for seed, row in base.items()}
    table = []
    for arm, mine in by_arm.items():
        both = sorted(set(mine) & set(base))
        if not both:
            continue
        own, before = (np.array([until(of[s], goals[s]) for s in both]) for of in (mine, base))
        spent, ago = (np.array([of[s]["answered"][-1] for s in both]) for of in (mine, base))
        volumes = [mine[s]["hypervolume"][-1] / base[s]["hypervolume"][-1] for s in both]
        table.append(
            {
                "arm": arm,
                "seeds": len(both),
                "to_goal": float(np.median(own)) / n_samples,
                "times": float(before.sum() / own.sum()),
                "missed": sum(mine[s]["hypervolume"][-1] < goals[s] for s in both),
                "in_all": float(np.median(spent)) / n_samples,
                "times_in_all": float(ago.sum() / spent.sum()),
                "stopped": float(np.mean([mine[s]["stopped"] for s in both])),
                "volume": float(np.mean(volumes)),
                "least_volume": float(np.min(volumes)),
            }
        )
    return table


def show(table: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    heads = ("to 99 %", "x", "missed", "in all", "x", "stopped", "volume", "least")
    print(f"{'search':<30}{'seeds':>5}" + "".join(f"{head:>9}" for head in heads))
    for line in table:
        cells = f"{line['to_goal']:>9.1f}{line['times']:>9.2f}{line['missed']:>9}{line['in_all']:>9.1f}"
        cells += (
            f"{line['times_in_all']:>9.2f}{line['stopped']:>9.1f}{line['volume']:>9.4f}{line['least_volume']:>9.4f}"
        )
        print(f"{line['arm']:<30}{line['seeds']:>5}{cells}")


def main() -> None:
    """Run what is missing in the JSON file, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--trials", type=int, default=160)
    parser.add_argument("--out", type=Path, help="JSON; studies that it holds already are not run again")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}
    rows = known["studies"] if known.get("trials") == given.trials else []
    ran = {(row["arm"], row["seed"]) for row in rows}
    wanted = [(arm, seed) for seed in range(given.seeds) for arm in given.arms]
    recorded = Recorded.read(DATA)
    for arm, seed in tqdm([one for one in wanted if one not in ran], unit="study"):
        rows.append({"arm": arm, "seed": seed} | one_study(recorded, ARMS[arm], seed, given.trials))
        if given.out:
            table = summarise(rows, len(recorded.labels))
            given.out.write_text(json.dumps({"trials": given.trials, "table": table, "studies": rows}) + "\n")
    show(summarise(rows, len(recorded.labels)))


if __name__ == "__main__":
    main()
