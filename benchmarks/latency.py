"""How noisy is a study's latency cost? `python -m benchmarks.latency`: one pruner measured again and again.

Every repeat is what one trial of `search.cost=latency` measures, on the embedded model; the budgets take turns.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from search.config.experiment import Experiment
from search.study.model_evaluator import open_evaluator

RATIOS = (0.5, 0.35, 0.25)


def measure(per_kind: int, repeats: int) -> list[dict[str, float]]:
    """One row a budget: mean and standard deviation of the latency ratio over the repeats."""
    experiment = Experiment.compose([f"task.per_kind={per_kind}", "cache=null"])
    opened = open_evaluator(experiment.model, experiment.task, experiment.typed)
    pruners = [experiment.pruner({"pruner.budget.flops_ratio": ratio}) for ratio in RATIOS]
    ratios = np.array([[opened.latency(pruner) for pruner in pruners] for _ in range(repeats)])
    return [
        {"flops_ratio": ratio, "latency": mean, "sd": sd}
        for ratio, mean, sd in zip(RATIOS, ratios.mean(0).tolist(), ratios.std(0, ddof=1).tolist(), strict=True)
    ]


def main() -> None:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-kind", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = measure(given.per_kind, given.repeats)
    print(f"{'FLOPs ratio':>12}{'latency ratio':>15}{'sd':>8}")
    for row in rows:
        print("{:>12.2f}{:>15.3f}{:>8.3f}".format(*row.values()))
    if given.out:
        made_of = {"per_kind": given.per_kind, "repeats": given.repeats, "threads": torch.get_num_threads()}
        given.out.write_text(json.dumps({"settings": made_of, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
