"""How often a pruned model makes the host wait for the device, and how many calls of aten it adds: on any machine.

    python -m benchmarks.launches                                       # every method, counted on a CPU

LLaVA with random weights answers pictures of noise, two prompts of one length and two that leave padding. Counted is
what each method adds to the unpruned model, in a prefill (vision tower included) and in a decoded token, on a growing
cache and on a static one. A wait is whatever needs a value on the host, or copies from it in a way that it must see
through; see `waits`. Then the processor time that a with-block takes by itself, nothing run inside it.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache, PreTrainedModel, StaticCache

from benchmarks.options import RESULTS, settings_of
from benchmarks.random_llava import DIMS, Prompt, pixel_inputs, random_llava
from benchmarks.throughput import method_contexts
from benchmarks.timing import Context
from benchmarks.waits import Device

ROOM = 4
"""Tokens that a static cache takes behind the prompt."""
CACHES: dict[str, Callable[[PreTrainedModel, int], Cache]] = {
    "growing": lambda model, n: DynamicCache(config=model.config.text_config),
    "static": lambda model, n: StaticCache(config=model.config.text_config, max_cache_len=n + ROOM),
}


@torch.inference_mode()
def counted(
    model: PreTrainedModel, prompts: Sequence[Prompt], context: Context, cache: str
) -> tuple[dict[str, Device], int]:
    """What a prefill did, and the second token behind it; and in how many layers fewer tokens entered than before."""
    inputs = pixel_inputs(model, prompts)
    mask = inputs["attention_mask"]
    new, held = torch.full_like(mask[:, :1], 7), CACHES[cache](model, mask.shape[1])
    with context() as trace:
        with Device() as prefill:
            model(**inputs, past_key_values=held, logits_to_keep=1)
        for _ in range(2):
            mask = torch.cat([mask, torch.ones_like(new)], dim=1)
            with Device() as decode:
                model(input_ids=new, attention_mask=mask, past_key_values=held)
    kept = np.array([[sample.geometry.n_vision, *sample.counts] for sample in trace.samples]) if trace else np.zeros(1)
    return {"prefill": prefill, "decode": decode}, int((np.diff(kept) < 0).any(0).sum())


def compare(
    model: PreTrainedModel, batches: dict[str, Sequence[Prompt]], contexts: dict[str, Context]
) -> Iterator[dict[str, Any]]:
    """One row a method and batch: what is added to the unpruned model, the first of the contexts."""
    (_, plain), *methods = contexts.items()
    for batch, prompts in batches.items():
        stock = {cache: counted(model, prompts, plain, cache)[0] for cache in CACHES}
        for name, context in methods:
            row: dict[str, Any] = {"method": name, "batch": batch}
            for cache in CACHES:
                done, n_cuts = counted(model, prompts, context, cache)
                row["cuts"] = n_cuts
                for phase in ("prefill", "decode"):
                    own, of_stock = done[phase], stock[cache][phase]
                    row[f"{cache}_{phase}_waits"] = len(own.waits) - len(of_stock.waits)
                    row[f"{cache}_{phase}_calls"] = own.calls.total() - of_stock.calls.total()
            yield row


def attach_ms(context: Context, repeats: int = 50) -> float:
    """Milliseconds of processor time that a with-block takes by itself, at its least: a busy machine only adds."""
    spent = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such a block says that nothing was pruned
        for _ in range(repeats + 1):
            begun = process_time()
            with context():
                pass
            spent.append(process_time() - begun)
    return 1e3 * min(spent[1:])


def main() -> None:
    """Print a row a method and batch and write them, with the settings, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", choices=DIMS, default="tiny")
    parser.add_argument("--methods", nargs="+", default=[], help="of conf/method (default: all)")
    parser.add_argument("--tokens", type=float, default=192, help="the budget, of 576")
    parser.add_argument("--repeats", type=int, default=50, help="with-blocks that are timed")
    parser.add_argument("--out", type=Path, default=RESULTS / "launches.json", help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = random_llava(given.dims, "cpu", torch.float32, tower=True)
    vision = model.config.vision_config
    n_vision = (vision.image_size // vision.patch_size) ** 2
    batches = {"even": [Prompt(n_vision, seed=i) for i in range(2)]}
    batches["padded"] = [Prompt(n_vision, n_after=40, seed=0), Prompt(n_vision, n_after=60, seed=1)]
    contexts = method_contexts(model, batches["padded"], given.methods, given.tokens)
    for context in contexts.values():
        counted(model, batches["even"], context, "growing")  # the tower's FLOPs are counted in the first block
    rows = list(compare(model, batches, contexts))
    print(
        f"{'':28}{'cuts':>6}"
        + "".join(f"{cache + ' ' + phase:>20}" for cache in CACHES for phase in ("prefill", "decode"))
    )
    for row in rows:
        pairs = [f"{row[f'{c}_{p}_waits']} / {row[f'{c}_{p}_calls']}" for c in CACHES for p in ("prefill", "decode")]
        print(f"{row['method'] + ', ' + row['batch']:28}{row['cuts']:>6}" + "".join(f"{pair:>20}" for pair in pairs))
    blocks = {name: attach_ms(context, given.repeats) for name, context in list(contexts.items())[1:]}
    print(f"a with-block takes {min(blocks.values()):.2f} to {max(blocks.values()):.2f} ms")
    given.out.write_text(
        json.dumps({"settings": settings_of(given), "rows": rows, "with_block_ms": blocks}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
