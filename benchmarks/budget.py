"""How long `Budget.fit_batch` takes: `python -m benchmarks.budget [--out budget.json]`.

LLaVA-1.5-7B's sizes (32 layers, 576 visual and 64 text tokens), 256 samples at once, milliseconds per sample
(at most, for plans of four cuts at most, and for a batch of one), in CPU time, which a busy machine does not
stretch. The target is 0.1 ms, so that planning never shows beside a prefill.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import logistic, staircase
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)
FREE_FROM = 2
BATCH = 256
MAX_CUTS = 4
SHAPES = {
    "flat": [np.ones(32)] * BATCH,
    "staircase": [staircase(32, [8, 16, 24], [0.5, 0.25, 0.125])] * BATCH,
    "logistic, one slope each": [logistic(32, slope, 14.9) for slope in np.linspace(0, 0.4, BATCH)],
    "logistic, steep": [logistic(32, slope, 14.9) for slope in np.linspace(5, 50, BATCH)],
}
BUDGETS = [
    Budget(flops_ratio=0.45),
    Budget(flops_ratio=0.9),
    Budget(mean_tokens=192),
    Budget(mean_tokens=330),
]


def milliseconds(budget: Budget, shapes: np.ndarray, repeats: int, max_cuts: int | None = None) -> np.ndarray:
    """CPU milliseconds per sample of each repeat."""
    geometries, times = [LLAVA] * len(shapes), []
    for _ in range(repeats):
        start = time.process_time()
        budget.fit_batch(shapes, geometries, FREE_FROM, max_cuts)
        times.append((time.process_time() - start) / len(shapes) * 1e3)
    return np.array(times)


def measure(repeats: int) -> list[dict[str, object]]:
    """One row for each shape and budget that is not below the shape's floor."""
    rows: list[dict[str, object]] = []
    for name, shapes in SHAPES.items():
        stack = np.stack(shapes)
        for budget in BUDGETS:
            times = milliseconds(budget, stack, repeats)
            few_cuts = milliseconds(budget, stack, repeats, MAX_CUTS)
            single = milliseconds(budget, stack[:1], repeats)
            tokens = budget.fit(stack[0], LLAVA, FREE_FROM)
            rows.append(
                {
                    "shape": name,
                    "budget": {unit: bound for unit, bound in vars(budget).items() if bound is not None},
                    "batch": BATCH,
                    "ms_per_sample_median": float(np.median(times)),
                    "ms_per_sample_max": float(times.max()),
                    f"ms_per_sample_{MAX_CUTS}_cuts_median": float(np.median(few_cuts)),
                    "ms_batch_of_one_median": float(np.median(single)),
                    "first_sample_flops_ratio": flops_ratio(LLAVA, tokens),
                    "first_sample_mean_tokens": float(tokens.mean()),
                }
            )
    return rows


def main() -> None:
    """Print a table and write the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    rows = measure(arguments.repeats)
    few = f"{MAX_CUTS} cuts"
    print(f"{'shape':<26}{'budget':<24}{'ms/sample':>10}{'max':>8}{few:>8}{'one':>8}{'ratio':>9}{'tokens':>9}")
    for row in rows:
        label, figures = f"{row['shape']:<26}{row['budget']!s:<24}", list(row.values())[3:]
        print(label + "{:>10.4f}{:>8.4f}{:>8.4f}{:>8.3f}{:>9.5f}{:>9.3f}".format(*figures))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
