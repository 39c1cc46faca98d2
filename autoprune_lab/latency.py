"""How long a pruned answer takes, against the unpruned one."""

import time
from contextlib import nullcontext

import numpy as np
import torch

from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.prompts import Batch, PreparedTask
from autoprune_lab.pruner import Pruner


def latency_ratio(vlm: VLM, prepared: PreparedTask, pruner: Pruner, batches: int = 1, rounds: int = 5) -> float:
    """Median over rounds of pruned / unpruned wall time, prefill and decoding, on a fixed few of the task's batches.

    The two take turns, so that a busy machine slows both; one round beforehand warms up. The vision tower is left out
    where the prepared task holds its features.
    """
    middle = (len(prepared.batches) - batches) // 2
    chosen = prepared.batches[max(middle, 0) :][:batches]
    ratios = []
    for turn in range(rounds + 1):
        arms: list[Pruner | None] = [pruner, None] if turn % 2 else [None, pruner]
        spent = {arm: sum(_seconds(vlm, batch, arm, prepared.task.max_new_tokens) for batch in chosen) for arm in arms}
        ratios.append(spent[pruner] / spent[None])
    return float(np.median(ratios[1:]))


def _seconds(vlm: VLM, batch: Batch, pruner: Pruner | None, max_new_tokens: int) -> float:
    with torch.inference_mode(), pruner.attach(vlm.model) if pruner else nullcontext():
        start = _now(vlm.model.device)
        vlm.model.generate(**batch.arguments(), max_new_tokens=max_new_tokens, do_sample=False)
        return _now(vlm.model.device) - start


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
