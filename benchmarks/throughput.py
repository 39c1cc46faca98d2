"""Samples a second, unpruned and with every method that prunes at one budget.

    python -m benchmarks.throughput --device cuda --dims llava-1.5-7b --dtype bfloat16     # a GPU
    python -m benchmarks.throughput                                                        # one CPU core, a small model

LLaVA with random weights answers pictures of noise between 95 text tokens: vision tower, prefill with scoring and
planning, `--new-tokens` tokens of answer; pictures lie ready as pixels. Every arm runs all samples in the batch size
that served it best on a few of them, and all or the first `--singly` ones one by one. The budget is the papers': mean
tokens leaving a layer, of 576. Random weights say nothing about accuracy. The JSON is written anew after each arm.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from autoprune_lab.evaluation.timing import Seconds, interleaved, stopwatch
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry
from benchmarks import options
from benchmarks.random_llava import Prompt, pixel_inputs
from benchmarks.timing import Context
from search.config.compose import compose
from search.methods.arms import UNPRUNED, check_methods, method_arms

CALIBRATION = 8
"""Prompts of which a budget over the mean reads the complexities."""


def method_contexts(
    model: PreTrainedModel, prompts: Sequence[Prompt], names: Sequence[str], tokens: float
) -> dict[str, Context]:
    """What each method's answers run in, the unpruned ones first; a method that cannot be had at the budget is told."""
    text, few = model.config.text_config, prompts[:CALIBRATION]
    geometries = [Geometry.from_config(text, prompt.n_vision, prompt.n_text) for prompt in few]
    contexts: dict[str, Context] = {UNPRUNED: nullcontext}
    for arm in method_arms(compose(), check_methods(names, ()), [tokens], geometries):
        if arm.pruner is None:
            print(f"{arm.name}: {arm.note}", flush=True)
            continue
        pruner = arm.pruner
        if pruner.budget is not None and not pruner.budget.ready:
            pruner = pruner.calibrated(complexities(model, few, pruner), geometries)
        contexts[arm.method] = partial(pruner.attach, model)
    return contexts


@torch.inference_mode()
def complexities(model: PreTrainedModel, prompts: Sequence[Prompt], pruner: Pruner) -> np.ndarray:
    """Bits of the prompts, in one batch."""
    with replace(pruner, budget=None).attach(model) as trace:
        model(**pixel_inputs(model, prompts), logits_to_keep=1)
    return np.array([sample.complexity or 0.0 for sample in trace.samples])


@dataclass(frozen=True, eq=False)
class Crowd:
    """Prompts to be answered with `new_tokens` tokens each, `rounds` times after a warm-up."""

    model: PreTrainedModel
    prompts: Sequence[Prompt]
    new_tokens: int
    rounds: int

    def rate(self, context: Context, batch: int, most: int | None = None) -> float:
        """Samples a second of all prompts, or the first `most`, `batch` at once inside `context()`."""
        prompts = self.prompts[:most]
        seconds = interleaved([partial(self._answer, context, batch, prompts)], self.rounds)[:, 0, 0]
        return len(prompts) / float(np.median(seconds))

    def best_batch(self, context: Context, sizes: Sequence[int], few: int) -> tuple[int, float]:
        """The size that answers most a second, and its rate on all prompts.

        Sizes are tried on `few` prompts, or one batch, up to the first size that the memory does not hold.
        """
        rates: dict[int, float] = {}
        for size in sizes:
            try:
                rates[size] = self.rate(context, size, max(few, size))
            except torch.OutOfMemoryError:
                if not rates:
                    raise
                torch.cuda.empty_cache()
                break
        best = max(rates, key=rates.__getitem__)
        return best, rates[best] if few >= len(self.prompts) else self.rate(context, best)

    @torch.inference_mode()
    def _answer(self, context: Context, batch: int, prompts: Sequence[Prompt]) -> Seconds:
        """The seconds; making the pictures is not counted."""
        total = np.zeros(2)
        for start in range(0, len(prompts), batch):
            inputs = pixel_inputs(self.model, prompts[start : start + batch])
            with stopwatch(self.model.device) as spent, context():
                self.model.generate(
                    **inputs, min_new_tokens=self.new_tokens, max_new_tokens=self.new_tokens, do_sample=False
                )
            total += spent
        return total


def measure(
    crowd: Crowd, contexts: dict[str, Context], sizes: Sequence[int], few: int, singly: int | None = None
) -> Iterator[dict[str, Any]]:
    """One row an arm, the unpruned one first; `speed_*` are ratios to it. The first `singly` samples run one by one."""
    unpruned: tuple[float, float] | None = None
    for name, context in contexts.items():
        batch, best = crowd.best_batch(context, sizes, few)
        alone = crowd.rate(context, 1, singly)
        unpruned = unpruned or (alone, best)
        yield {
            "method": name,
            "samples_per_s_singly": alone,
            "speed_singly": alone / unpruned[0],
            "samples_per_s_best": best,
            "speed_best": best / unpruned[1],
            "best_batch": batch,
        }


def main() -> None:
    """Print a row an arm and write them, with the settings, as JSON."""
    given = _arguments()
    model = options.model_of(given, tower=True)
    vision = model.config.vision_config
    prompts = [Prompt((vision.image_size // vision.patch_size) ** 2, seed=seed) for seed in range(given.samples)]
    out, rows = options.out_of(given, "throughput"), []
    contexts = method_contexts(model, prompts, given.methods, given.tokens)
    print(f"{'':20}{'samples/s, singly':>24}{'best batch':>20}")
    crowd = Crowd(model, prompts, given.new_tokens, given.rounds)
    for row in measure(crowd, contexts, given.batch, given.few, given.singly):
        rows.append(row)
        _, singly, faster, best, fastest, batch = row.values()
        print(f"{row['method']:20}{singly:>14.2f} x {faster:5.2f}{best:>14.2f} x {fastest:5.2f} ({batch})", flush=True)
        out.write_text(json.dumps({"settings": options.settings_of(given), "rows": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--methods", nargs="+", default=[], help="of conf/method (default: all)")
    parser.add_argument("--tokens", type=float, default=64, help="the budget, of 576")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="sizes to choose from")
    parser.add_argument("--few", type=int, default=64, help="samples that choose the batch size")
    parser.add_argument("--singly", type=int, help="samples that are also run one by one (default: all)")
    parser.add_argument("--new-tokens", type=int, default=2, help="length of an answer")
    parser.add_argument("--rounds", type=int, default=1, help="counted passes, after one to warm up")
    return parser.parse_args()


if __name__ == "__main__":
    main()
