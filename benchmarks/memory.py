"""How much memory a pruned prefill holds at its highest, beside the unpruned one: `python -m benchmarks.memory`.

A LLaVA of 32 heads and few layers, with random weights, reads one picture and a text on a CPU; counted are the bytes of
all tensors that exist at one time, weights and inputs left out. A deeper or wider model's unpruned prefill holds more
beside the same rows of attention.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from autoprune_lab.evidence import complexity
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.diversity import max_min_diversity
from benchmarks.options import RESULTS, settings_of
from benchmarks.random_llava import DIMS, N_SYSTEM, Prompt, random_llava
from benchmarks.timing import Workload
from policies.fixed import FixedPolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy


class Peak(TorchDispatchMode):
    """`bytes`: the most that tensors made inside the block held at one time; what a kernel needs inside is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and (storage := one.untyped_storage())._cdata not in given:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {place: held for place, held in self._alive.items() if not held[0].expired()}
        self.bytes = max(self.bytes, sum(n_bytes for _, n_bytes in self._alive.values()))
        return result


@torch.inference_mode()
def peak_bytes(call: Callable[[], Any]) -> int:
    """What `call` holds at its highest."""
    with Peak() as peak:
        call()
    return peak.bytes


def pruners(n_layers: int) -> dict[str, Pruner]:
    """One arm a scorer or a recovery, and one an estimator, whose own policy is adaptive."""
    choosers = (scorers.last_token_attention, scorers.text_attention, scorers.rater_attention)
    estimators = (complexity.mutual_information, complexity.attention_entropy)
    fixed = FixedPolicy(layer=2, keep=0.1)
    shape = LogisticAdaptivePolicy(x0=n_layers / 4)
    return (
        {one.__name__: Pruner(fixed, scorer=one) for one in choosers}
        | {one.__name__: Pruner(shape, complexity=one, max_cuts=1) for one in estimators}
        | {type(one).__name__: Pruner(fixed, recovery=one) for one in (ContextualMerge(in_place=True), ClusterMerge())}
        | {max_min_diversity.__name__: Pruner(fixed, scorer=max_min_diversity)}
    )


def measured(
    model: PreTrainedModel, lengths: Iterable[tuple[int, int]], arms: dict[str, Pruner]
) -> Iterator[dict[str, Any]]:
    """One row a length of prompt (visual, text tokens) and arm: MiB at the highest, and how often the unpruned ones."""
    for n_vision, n_text in lengths:
        workload = Workload(model, [Prompt(n_vision, max(n_text - N_SYSTEM, 1))])
        _ = workload.inputs
        unpruned = peak_bytes(partial(workload.seconds, nullcontext))
        for name, pruner in arms.items():
            peak = peak_bytes(partial(workload.look, pruner))
            yield {
                "arm": name, "n_vision": n_vision, "n_text": n_text, "unpruned_mib": unpruned / 2**20,
                "peak_mib": peak / 2**20, "ratio": peak / unpruned,
            }  # fmt: skip


def main() -> None:
    """Print one row an arm, one column a length of prompt, and write all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", choices=DIMS, default="many-heads")
    parser.add_argument("--vision", type=int, nargs="+", default=[576, 2880, 10000])
    parser.add_argument("--text", type=int, nargs="+", default=[60, 1000, 4000], help="text tokens")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json", help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = random_llava(given.dims, "cpu", torch.float32)
    arms = pruners(model.config.text_config.num_hidden_layers)
    lengths = list(itertools.product(given.vision, given.text))
    rows = []
    for row in measured(model, lengths, arms):
        rows.append(row)
        print(
            f"{row['n_vision']:>6} + {row['n_text']:<6}{row['arm']:24}{row['peak_mib']:>9.1f} MiB{row['ratio']:>7.2f}",
            flush=True,
        )
    print("".join([f"{'':24}", *(f"{f'{n} + {m}':>14}" for n, m in lengths)]))
    for name in arms:
        print(f"{name:24}" + "".join(f"{row['ratio']:>14.2f}" for row in rows if row["arm"] == name))
    given.out.write_text(json.dumps({"settings": settings_of(given), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
