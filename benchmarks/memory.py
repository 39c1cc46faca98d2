"""How much memory a pruned prefill holds at its highest, by what the pruner looks at: `python -m benchmarks.memory`.

A small LLaVA with random weights reads one picture and a long text on a CPU; counted are the bytes of all tensors that
exist at one time, weights and inputs left out. Scorers and estimators that look at all text rows should need little
more than the one that looks at the last row.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoprune_lab.evidence import complexity
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from benchmarks.random_llava import DIMS, Prompt, random_llava
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
    """One arm a scorer, and one an estimator, whose own policy is adaptive."""
    choosers = (scorers.last_token_attention, scorers.text_attention, scorers.rater_attention)
    estimators = (complexity.mutual_information, complexity.attention_entropy)
    fixed = {one.__name__: Pruner(FixedPolicy(layer=2, keep=0.1), scorer=one) for one in choosers}
    shape = LogisticAdaptivePolicy(x0=n_layers / 4)
    return fixed | {one.__name__: Pruner(shape, complexity=one, max_cuts=1) for one in estimators}


def main() -> None:
    """Print one row an arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", choices=DIMS, default="tiny")
    parser.add_argument("--vision", type=int, default=576)
    parser.add_argument("--text", type=int, default=4000, help="text tokens after the picture")
    given = parser.parse_args()
    model = random_llava(given.dims, "cpu", torch.float32)
    workload = Workload(model, [Prompt(given.vision, given.text)])
    print(f"{'':24}{'MiB':>8}{'of the first':>14}")
    first, _ = 0, workload.inputs
    for name, pruner in pruners(model.config.text_config.num_hidden_layers).items():
        peak = peak_bytes(partial(workload.look, pruner))
        first = first or peak
        print(f"{name:24}{peak / 2**20:>8.1f}{peak / first:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
