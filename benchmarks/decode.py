"""What pruning saves of a decode step: on a growing cache, and on a static one whose steps are CUDA graphs.

    python -m benchmarks.decode --device cuda --dims llava-1.5-7b --dtype bfloat16 --vision 576 2880 --batch 1 8

A LLaVA decoder with random weights is given vision features and one token after the other. CPU seconds of the process
on a CPU, seconds until the device is done on a GPU, of one step; a first pass over all steps is not counted. A step is
compiled whole (`fullgraph=True`), by `mode="reduce-overhead"` on a GPU; on a CPU torch runs its graph as it is, a dry
run.
`cudagraph_skips`: graphs that torch could not make a CUDA graph of; `memory_gib`: the keys and values of both caches.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any

import torch
from torch._dynamo.utils import counters
from transformers import Cache, DynamicCache, PreTrainedModel, StaticCache

from autoprune_lab.evaluation.timing import stopwatch
from benchmarks import options
from benchmarks.arms import pruners
from benchmarks.random_llava import Prompt, inputs_for
from benchmarks.timing import Context

Rows = list[dict[str, Any]]


@torch.no_grad()
def compare(model: PreTrainedModel, prompts: list[Prompt], contexts: dict[str, Context], steps: int) -> Rows:
    """One row an arm, the unpruned one first: milliseconds of a step on each cache, and ratios to the first row."""
    text = model.config.get_text_config()
    rows: Rows = []
    for arm, context in contexts.items():
        torch.compiler.reset()  # each arm's lengths are compiled as they are
        counters.clear()
        row: dict[str, Any] = {"arm": arm}
        length = max(prompt.n_tokens for prompt in prompts) + steps
        growing, static = partial(DynamicCache, config=text), partial(StaticCache, config=text, max_cache_len=length)
        for name, made, step in (("growing", growing, model), ("graphs", static, _compiled(model))):
            with context():
                for _warm in (True, False):  # kernels are chosen, memory is taken, graphs are recorded
                    cache = made()
                    row[f"{name}_ms"] = 1e3 * _seconds(model, prompts, cache, step, steps)
            row[f"{name}_memory_gib"] = sum(one.keys.nbytes + one.values.nbytes for one in cache.layers) / 2**30
        row["cudagraph_skips"] = counters["inductor"]["cudagraph_skips"]
        first = rows[0] if rows else row
        row |= {f"{name}_ratio": row[f"{name}_ms"] / first[f"{name}_ms"] for name in ("growing", "graphs")}
        rows.append(row)
    return rows


def _compiled(model: PreTrainedModel) -> Callable[..., Any]:
    how = {"mode": "reduce-overhead"} if model.device.type == "cuda" else {"backend": "eager"}
    step: Callable[..., Any] = torch.compile(model, fullgraph=True, **how)  # type: ignore[call-overload]
    return step


def _seconds(
    model: PreTrainedModel, prompts: list[Prompt], cache: Cache, step: Callable[..., Any], steps: int
) -> float:
    """What one of `steps` decode steps takes."""
    token = model(**inputs_for(model, prompts), past_key_values=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)
    with stopwatch(model.device) as spent:
        for _ in range(steps):
            torch.compiler.cudagraph_mark_step_begin()
            token = step(input_ids=token, past_key_values=cache).logits[:, -1:].argmax(-1)
    return float(spent[0]) / steps


def tables(model: PreTrainedModel, args: argparse.Namespace) -> Iterator[tuple[str, Rows]]:
    """Titles and rows, each as soon as it is measured."""
    for n_vision, batch in product(args.vision, args.batch):
        arms = pruners(model.config.text_config.num_hidden_layers, n_vision, args.mean_tokens)
        contexts: dict[str, Context] = {"unpruned": nullcontext}
        contexts |= {name: partial(arms[f"{name} {args.mean_tokens}"].attach, model) for name in args.arms}
        prompts = [Prompt(n_vision, seed=seed) for seed in range(batch)]
        yield f"{n_vision} visual tokens, batch of {batch}", compare(model, prompts, contexts, args.steps)


def main() -> None:
    """Print the tables and write them, with the settings, as JSON."""
    args = _arguments()
    options.write_tables(args, "decode", tables(options.model_of(args), args))


def _arguments() -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--vision", type=int, nargs="+", default=[576], help="visual tokens of a prompt")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="prompts of a batch")
    parser.add_argument("--arms", nargs="+", default=["fixed", "logistic"], help="of benchmarks/arms.py")
    parser.add_argument("--mean-tokens", type=int, default=64, help="budget, for 576 visual tokens")
    parser.add_argument("--steps", type=int, default=32, help="decode steps that count")
    return parser.parse_args()


if __name__ == "__main__":
    main()
