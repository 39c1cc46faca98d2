"""How long a pruned answer takes, against the unpruned one."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import torch

from autoprune_lab.decoder.attach import attached
from autoprune_lab.decoder.greedy import greedily
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.evaluation.timing import Seconds, interleaved, stopwatch
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner

_WALL = 1  # of `Seconds`


def latency_ratio(vlm: VLM, prepared: PreparedTask, pruner: Pruner, batches: int = 1, rounds: int = 5) -> float:
    """Median over rounds of pruned / unpruned wall time, prefill and decoding, on a fixed few of the task's batches.

    The two take turns, so that a busy machine slows both; one round beforehand warms up. The vision tower is left out
    where the prepared task holds its features.
    """
    middle = (len(prepared.batches) - batches) // 2
    chosen = prepared.batches[max(middle, 0) :][:batches]
    arms = [partial(_seconds, vlm, chosen, arm, prepared.task.max_new_tokens) for arm in (None, pruner)]
    seconds = interleaved(arms, rounds)[..., _WALL]
    return float(np.median(seconds[:, 1] / seconds[:, 0]))


def _seconds(vlm: VLM, batches: tuple[Batch, ...], pruner: Pruner | None, max_new_tokens: int) -> Seconds:
    arguments = [batch.arguments() for batch in batches]
    context = attached(pruner, vlm.model, warn=False) if pruner else nullcontext()
    with torch.inference_mode(), greedily(vlm.model), context, stopwatch(vlm.model.device) as spent:
        for one in arguments:
            vlm.model.generate(**one, max_new_tokens=max_new_tokens, do_sample=False)
    return spent
