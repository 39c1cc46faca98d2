"""Pruned against unpruned time, side by side: every run in turn, so that a busy machine disturbs all alike."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from autoprune_lab.decoder.attach import attached, needs_pixels
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.actor import refuse_actions
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.models.generation import greedily
from autoprune_lab.pruner import Pruner

Seconds = Float[np.ndarray, "2"]
"""What something took: by the clock that counts (the process's CPU time; on a GPU wall time), and on the wall."""
_WALL = 1


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
    vlm: VLM, batch: Batch, pruners: Sequence[Pruner], rounds: int = 5, others: Sequence[Batch] = ()
) -> Float[np.ndarray, "arms"]:
    """Pruned / unpruned prefill time of one batch, planning and scoring included: the median over `rounds`.

    Of a pruner that looks at more of the vision tower than features keep, both times have the tower in them. `others`
    follow the pruners: batches of the same samples shown otherwise, which run unpruned.
    """
    contexts: list[Callable[[], AbstractContextManager[Any]]]
    contexts = [nullcontext, *(partial(attached, pruner, vlm.model, warn=False) for pruner in pruners)]
    pixels = [needs_pixels(pruner, vlm.model) for pruner in (None, *pruners)]
    runs = [partial(_prefill_seconds, vlm, batch, *run) for run in zip(contexts, pixels, strict=True)]
    runs += [partial(_prefill_seconds, vlm, other, nullcontext, False) for other in others]
    arms, whole = range(1, len(runs)), [-1 if own else 0 for own in pixels[1:]] + [0] * len(others)
    if any(pixels):
        runs.append(partial(_prefill_seconds, vlm, batch, nullcontext, True))
    seconds = interleaved(runs, rounds)[..., 0]
    return np.asarray(np.median(seconds[:, arms] / seconds[:, whole], axis=0))


def selection_shares(
    vlm: VLM, batch: Batch, pruners: Sequence[Pruner], rounds: int = 3
) -> Float[np.ndarray, "pruners"]:
    """Which part of a pruned prefill's time is the method's own, in [0, 1]: the median over `rounds`.

    Its own is what happens between the decoder's layers: complexity, planning, scoring, gathering what stays with masks
    and positions, and writing the trace; what the vision tower does for it is not. Runs of their own, since a GPU
    waits at every layer for the clock, so that there the share is rather too high.
    """
    if not pruners:
        return np.empty(0)
    runs = [partial(_own_seconds, vlm, batch, pruner, needs_pixels(pruner, vlm.model)) for pruner in pruners]
    own, whole = np.moveaxis(interleaved(runs, rounds), -1, 0)
    return np.asarray(np.median(own / whole, axis=0))


def latency_ratio(vlm: VLM, prepared: PreparedTask, pruner: Pruner, batches: int = 1, rounds: int = 5) -> float:
    """Median over rounds of pruned / unpruned wall time, prefill and decoding, on a fixed few of the task's batches.

    The two take turns, so that a busy machine slows both; one round beforehand warms up. The vision tower is left out
    where the prepared task holds its features, and the pruner looks at no more of it.
    """
    pixels = needs_pixels(pruner, vlm.model)
    middle = (len(prepared.batches) - batches) // 2
    chosen = prepared.batches[max(middle, 0) :][:batches]
    arms = [partial(_answer_seconds, vlm, chosen, arm, prepared.task.max_new_tokens, pixels) for arm in (None, pruner)]
    seconds = interleaved(arms, rounds)[..., _WALL]
    return float(np.median(seconds[:, 1] / seconds[:, 0]))


@torch.inference_mode()
def _prefill_seconds(
    vlm: VLM, batch: Batch, context: Callable[[], AbstractContextManager[Any]], pixels: bool
) -> Seconds:
    arguments = batch.arguments(pixels)
    with context(), stopwatch(vlm.model.device) as spent:
        vlm.model(**arguments, use_cache=True, logits_to_keep=1)
    return spent


def _own_seconds(vlm: VLM, batch: Batch, pruner: Pruner, pixels: bool) -> Float[np.ndarray, "2"]:
    """What of a pruned prefill is the pruner's own, and the whole, by the clock that counts."""
    own = np.zeros(2)

    @contextmanager
    def clock() -> Iterator[None]:
        with stopwatch(vlm.model.device) as spent:
            yield
        own[:] += spent

    whole = _prefill_seconds(vlm, batch, partial(attached, pruner, vlm.model, warn=False, own=clock), pixels)
    return np.array([own[0], whole[0]])


@torch.inference_mode()
def _answer_seconds(
    vlm: VLM, batches: tuple[Batch, ...], pruner: Pruner | None, max_new_tokens: int, pixels: bool
) -> Seconds:
    refuse_actions(vlm.processor, vlm.name)
    arguments = [batch.arguments(pixels) for batch in batches]
    context = attached(pruner, vlm.model, warn=False) if pruner else nullcontext()
    with greedily(vlm.model), context, stopwatch(vlm.model.device) as spent:
        for one in arguments:
            vlm.model.generate(**one, max_new_tokens=max_new_tokens, do_sample=False)
    return spent


def _now(device: torch.device) -> Seconds:
    if device.type != "cuda":
        return np.array([process_time(), perf_counter()])
    torch.cuda.synchronize(device)
    return np.full(2, perf_counter())
