"""Prompts of unequal lengths and complexities, pruned in batches or singly: what padding costs, what sorting saves."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from autoprune_lab.evaluation.timing import Seconds, interleaved
from autoprune_lab.evidence.complexity import mutual_information
from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry
from benchmarks.random_llava import Prompt
from benchmarks.timing import Workload

Slots = Int[np.ndarray, "prompts layers"]


def unequal_prompts(n_vision: int, sizes: int, n_prompts: int) -> list[Prompt]:
    """A picture of 1/sizes, 2/sizes, ... or all of `n_vision` tokens, 20 to 100 of text after it, 0 to 2 bits."""
    rng = np.random.default_rng(0)
    return [
        Prompt(n_vision * int(rng.integers(1, sizes + 1)) // sizes, int(rng.integers(20, 101)), seed, rng.uniform(0, 2))
        for seed in range(n_prompts)
    ]


def compare_orders(
    model: PreTrainedModel, pruner: Pruner, prompts: Sequence[Prompt], batch: int, rounds: int
) -> list[dict[str, Any]]:
    """One row an order: tokens a second, counted before pruning, and how much of what layers compute is padding."""
    entering = entering_tokens(model, pruner, prompts)
    by_length = sorted(range(len(prompts)), key=lambda i: prompts[i].n_tokens)
    orders = {
        "singly": _split(range(len(prompts)), 1),
        "as they come": _split(range(len(prompts)), batch),
        "by prompt length": _split(by_length, batch),
        "by planned curve": alike(entering, batch),
    }
    runs = [
        partial(_pass, [Workload(model, [prompts[i] for i in group]) for group in order], pruner)
        for order in orders.values()
    ]
    seconds = interleaved(runs, rounds)[..., 0]
    n_tokens = sum(prompt.n_tokens for prompt in prompts)
    return [
        {
            "order": name,
            "batch": len(order[0]),
            "tokens_per_s": n_tokens / float(np.median(taken)),
            "speed_over_singly": float(np.median(seconds[:, 0] / taken)),
            "padding_percent": padding_percent(entering, order),
        }
        for (name, order), taken in zip(orders.items(), seconds.T, strict=True)
    ]


def entering_tokens(model: PreTrainedModel, pruner: Pruner, prompts: Sequence[Prompt]) -> Slots:
    """Planned tokens, text too, that enter each layer."""
    config = model.config.text_config
    geometries = [Geometry.from_config(config, prompt.n_vision, prompt.n_text) for prompt in prompts]
    planned = pruner.plan(np.array([prompt.bits for prompt in prompts]), geometries).tokens
    return planned + np.array([[prompt.n_text] for prompt in prompts])


def alike(entering: Slots, batch: int) -> list[list[int]]:
    """Batches from the longest prompt down, each filled with the prompts that add the least padding to it."""
    left, groups = np.argsort(-entering.sum(1), kind="stable").tolist(), []
    while left:
        group = [left.pop(0)]
        while left and len(group) < batch:
            width = np.maximum(entering[left], entering[group].max(0)).sum(1)
            added = width * (len(group) + 1) - entering[left].sum(1)
            group.append(left.pop(int(added.argmin())))
        groups.append(group)
    return groups


def padding_percent(entering: Slots, groups: Sequence[Sequence[int]]) -> float:
    """Padded slots among all that the layers compute."""
    slots = sum(len(group) * int(entering[group].max(0).sum()) for group in groups)
    return 100 * (1 - int(entering.sum()) / slots)


def told(pruner: Pruner, prompts: Sequence[Prompt]) -> Pruner:
    """The pruner, with the prompts' own bits for complexities; the work of computing them stays."""
    return replace(pruner, complexity=partial(_told, bits=torch.tensor([p.bits for p in prompts], dtype=torch.double)))


def _told(evidence: Evidence, bits: Tensor) -> Tensor:
    return mutual_information(evidence) * 0 + bits.to(evidence.index.device)


def _pass(workloads: Sequence[Workload], pruner: Pruner) -> Seconds:
    """All batches of one order."""
    return sum(
        (work.seconds(partial(told(pruner, work.prompts).attach, work.model)) for work in workloads), np.zeros(2)
    )


def _split(order: Sequence[int], batch: int) -> list[list[int]]:
    return [list(order[start : start + batch]) for start in range(0, len(order), batch)]
