"""Prefills to be timed side by side, of a model and of its bare layers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.evaluation.timing import Seconds, stopwatch
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace.sample import SampleTrace
from benchmarks.random_llava import Prompt, inputs_for

Context = Callable[[], AbstractContextManager[Any]]


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
