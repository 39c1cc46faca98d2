"""Prefills timed side by side: every run in turn, round after round, so that a busy machine disturbs all alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace import SampleTrace
from benchmarks.random_llava import Prompt, inputs_for

Context = Callable[[], AbstractContextManager[Any]]
Seconds = Float[np.ndarray, "2"]
"""What something took: by the clock that counts (the process's CPU time; on a GPU wall time), and on the wall."""


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Seconds]:
    """Yields an array that holds the block's seconds once the block is left; a GPU must have finished."""
    spent = -_now(device)
    yield spent
    spent += _now(device)


def _now(device: torch.device) -> Seconds:
    if device.type != "cuda":
        return np.array([process_time(), perf_counter()])
    torch.cuda.synchronize(device)
    return np.full(2, perf_counter())


def interleaved(runs: Sequence[Callable[[], Seconds]], rounds: int) -> Float[np.ndarray, "rounds runs 2"]:
    """What each run says it took. Every round starts with another run; the first round only warms up."""
    seconds = np.empty((rounds + 1, len(runs), 2))
    for turn in range(rounds + 1):
        for step in range(len(runs)):
            run = (turn + step) % len(runs)
            seconds[turn, run] = runs[run]()
    return seconds[1:]


@dataclass(frozen=True, eq=False)
class Workload:
    """One batch of prompts for one model."""

    model: PreTrainedModel
    prompts: Sequence[Prompt]

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Arguments of `forward`."""
        return inputs_for(self.model, self.prompts) | {"use_cache": True, "logits_to_keep": 1}

    @torch.inference_mode()
    def seconds(self, context: Context) -> Seconds:
        """What one prefill takes inside `context()`; entering and leaving that is not counted."""
        inputs = self.inputs
        with context(), stopwatch(self.model.device) as spent:
            self.model(**inputs)
        return spent

    @torch.inference_mode()
    def look(self, pruner: Pruner) -> tuple[list[int], list[SampleTrace]]:
        """One pruned prefill, not timed: the slots of every sample that each layer computed, and the trace."""
        with pruner.attach(self.model) as trace:
            cache = self.model(**self.inputs).past_key_values
        return [layer.keys.shape[2] for layer in cache.layers], trace.samples

    def peak_gib(self, context: Context) -> float | None:
        """The GPU's memory at its highest during one prefill, weights included; None on a CPU."""
        if self.model.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats()
        self.seconds(context)
        return torch.cuda.max_memory_allocated() / 2**30


@contextmanager
def sliced(model: PreTrainedModel, lengths: Sequence[int]) -> Iterator[None]:
    """Stock layers, layer l on the first lengths[l] slots of every sample, padding or not, without a mask."""
    with ExitStack() as undo:
        for layer, length in zip(Anatomy.of(model).layers, lengths, strict=True):
            undo.callback(layer.register_forward_pre_hook(partial(_slice, length), with_kwargs=True).remove)
        yield


def _slice(length: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    rotary = tuple(part[:, :length] for part in kwargs["position_embeddings"])
    shorter = {"attention_mask": None, "position_ids": None, "position_embeddings": rotary}
    return (args[0][:, :length],), kwargs | shorter
