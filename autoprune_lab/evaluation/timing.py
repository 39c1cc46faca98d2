"""Time taken side by side: every run in turn, round after round, so that a busy machine disturbs all alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from autoprune_lab.decoder.attach import attached
from autoprune_lab.evaluation.prompts import Batch
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner

Seconds = Float[np.ndarray, "2"]
"""What something took: by the clock that counts (the process's CPU time; on a GPU wall time), and on the wall."""


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Seconds]:
    """Yields an array that holds the block's seconds once the block is left; a GPU must have finished."""
    spent = -_now(device)
    yield spent
    spent += _now(device)


def interleaved(runs: Sequence[Callable[[], Seconds]], rounds: int) -> Float[np.ndarray, "rounds runs 2"]:
    """What each run says it took. Every round starts with another run; the first round only warms up."""
    seconds = np.empty((rounds + 1, len(runs), 2))
    for turn in range(rounds + 1):
        for step in range(len(runs)):
            run = (turn + step) % len(runs)
            seconds[turn, run] = runs[run]()
    return seconds[1:]


def prefill_time_ratios(
    vlm: VLM, batch: Batch, pruners: Sequence[Pruner], rounds: int = 5
) -> Float[np.ndarray, "pruners"]:
    """Pruned / unpruned prefill time of one batch, planning and scoring included: the median over `rounds`."""
    contexts: list[Callable[[], AbstractContextManager[Any]]]
    contexts = [nullcontext, *(partial(attached, pruner, vlm.model, warn=False) for pruner in pruners)]
    seconds = interleaved([partial(_prefill_seconds, vlm, batch, context) for context in contexts], rounds)
    return np.asarray(np.median(seconds[:, 1:, 0] / seconds[:, :1, 0], axis=0))


@torch.inference_mode()
def _prefill_seconds(vlm: VLM, batch: Batch, context: Callable[[], AbstractContextManager[Any]]) -> Seconds:
    arguments = batch.arguments()
    with context(), stopwatch(vlm.model.device) as spent:
        vlm.model(**arguments, use_cache=True, logits_to_keep=1)
    return spent


def _now(device: torch.device) -> Seconds:
    if device.type != "cuda":
        return np.array([process_time(), perf_counter()])
    torch.cuda.synchronize(device)
    return np.full(2, perf_counter())
