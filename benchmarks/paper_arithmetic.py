"""The FLOPs columns of published tables beside ours, from arithmetic alone: `python -m benchmarks.paper_arithmetic`.

LLaVA-1.5-7B's sizes, 70 text tokens. A paper's "average tokens" are those leaving a layer; n_vision / n_layers = 18
more enter in the mean. FLOPs as papers count them: MACs 4nd^2 + 2n^2d + 3ndm of the tokens entering each layer.

Published: the official AutoPrune evaluation page (github.com/AutoLab-SAI-SJTU/AutoPrune, LLaVA-1.5-7B).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio, macs_3ndm, mean_tokens_entering, mean_tokens_leaving
from autoprune_lab.schedule.geometry import Geometry
from search.config.experiment import Experiment

LLAVA_7B = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=70)
PUBLISHED = {
    "fastv": {192: 45.7, 128: 36.8, 64: 27.9},
    "sparsevlm": {192: 46.3, 128: 37.3, 64: 28.2},
    "pdrop": {192: 43.9, 128: 35.1, 64: 25.5},
    "autoprune_official": {192: 42.9, 128: 33.7, 64: 23.2},
}


def fitted(method: str, tokens: int) -> Pruner:
    """The method at a mean of `tokens` leaving a layer: its own budget where it counts so, else ours."""
    pruner = Experiment.compose([f"method={method}"]).pruner()
    if pruner.budget is not None and pruner.budget.extra_layers:
        return replace(pruner, budget=replace(pruner.budget, mean_tokens=tokens))
    return replace(pruner, budget=Budget(mean_tokens=tokens + LLAVA_7B.n_vision / LLAVA_7B.n_layers))


def own_list(method: str) -> Pruner:
    """The method's published curve, not scaled."""
    return replace(Experiment.compose([f"method={method}"]).pruner(), budget=None)


def row(method: str, tokens: int | None, pruner: Pruner) -> dict[str, Any]:
    """One line: what the plan of a sample of 0 bits costs, and what is published."""
    counts = pruner.plan(np.zeros(1), [LLAVA_7B]).tokens[0]
    whole = macs_3ndm(LLAVA_7B, np.full(LLAVA_7B.n_layers, LLAVA_7B.n_vision))
    return {
        "method": method,
        "tokens": tokens,
        "papers_percent": 100 * macs_3ndm(LLAVA_7B, counts) / whole,
        "flops_percent": 100 * flops_ratio(LLAVA_7B, counts),
        "published_percent": None if tokens is None else PUBLISHED[method][tokens],
        "entering": mean_tokens_entering(counts),
        "leaving": mean_tokens_leaving(counts),
    }


def rows() -> list[dict[str, Any]]:
    """Every method with a published column, at its own list and at the papers' budgets."""
    lines = []
    for method, columns in PUBLISHED.items():
        if method != "autoprune_official":
            lines.append(row(method, None, own_list(method)))
        lines += [row(method, tokens, fitted(method, tokens)) for tokens in columns]
    return lines


def main() -> None:
    """Print a Markdown table and write the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    lines = rows()
    print("| method | average tokens | papers' FLOPs % | published % | our FLOPs % | entering | leaving |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        tokens = line["tokens"] or "own list"
        published = "" if line["published_percent"] is None else line["published_percent"]
        figures = " | ".join(f"{line[name]:.1f}" for name in ("flops_percent", "entering", "leaving"))
        print(f"| {line['method']} | {tokens} | {line['papers_percent']:.1f} | {published} | {figures} |")
    if arguments.out:
        arguments.out.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()
