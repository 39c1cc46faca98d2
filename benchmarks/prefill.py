"""What pruning saves of a prefill, and what pruning itself costs.

    python -m benchmarks.prefill                                                  # one CPU core
    python -m benchmarks.prefill --device cuda --dims llava-1.5-7b --dtype bfloat16 --vision 576 2880 --batch 1 8 32

A LLaVA decoder with random weights is given vision features, so that only the decoder's prefill is timed: CPU seconds
of the process on a CPU, seconds until the device is done on a GPU. All arms take turns; ratios are medians over the
rounds. Every pruned arm has its floor: stock layers on as many tokens as the arm had in each layer, simply the first
ones, so that planning, scoring, gathering and masking cost nothing. Then prompts of unequal lengths and complexities
run singly and in batches of the largest size (if that is above 1), in several orders.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks import options
from benchmarks.arms import compare_arms, pruners
from benchmarks.ragged import compare_orders, unequal_prompts
from benchmarks.random_llava import Prompt
from benchmarks.timing import Workload

Rows = list[dict[str, Any]]


def tables(model: PreTrainedModel, args: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Titles and rows, each as soon as it is measured."""
    n_layers = model.config.text_config.num_hidden_layers
    for n_vision, batch in product(args.vision, args.batch):
        arms = {}
        for tokens in args.mean_tokens:
            arms |= pruners(n_layers, n_vision, tokens)
        workload = Workload(model, [Prompt(n_vision, seed=seed) for seed in range(batch)])
        yield f"{n_vision} visual tokens, batch of {batch}", _fitting(compare_arms, workload, arms, args.rounds)
    tokens, batch = args.mean_tokens[0], max(args.batch)
    for n_vision, sizes in product(args.vision, (1, 4) if batch > 1 else ()):
        pruner = pruners(n_layers, n_vision, tokens)[f"logistic {tokens}"]
        prompts = unequal_prompts(n_vision, sizes, args.unequal * batch)
        title = f"pictures of {sizes} sizes up to {n_vision} visual tokens, logistic {tokens}"
        yield title, _fitting(compare_orders, model, pruner, prompts, batch, args.rounds)


def _fitting(compare: Callable[..., Rows], *args: Any) -> Rows:
    """The rows of `compare(*args)`, or one that says that the GPU's memory is too small for them."""
    try:
        return compare(*args)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return [{"arm": "out of memory"}]


def main() -> None:
    """Print the tables and write them, with the settings, as JSON."""
    args = _arguments()
    options.write_tables(args, "prefill", tables(options.model_of(args), args))


def _arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--vision", type=int, nargs="+", default=[576], help="visual tokens of a prompt")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="prompts of a batch")
    parser.add_argument("--mean-tokens", type=int, nargs="+", default=[64, 128], help="budgets, for 576 visual tokens")
    parser.add_argument("--unequal", type=int, default=4, help="batches of unequal prompts")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
