"""Answers in actions: chunks of them, which begin as noise that is a sample's own, in the robot's own units."""

from collections.abc import Sequence
from contextlib import nullcontext
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.decoder.attach import attached
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.actor import in_units
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.trace.sample import SampleTrace


def acted(
    vlm: VLM, prepared: PreparedTask, batch: Batch, pruner: Pruner | None, seeds: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, "batch steps dim"], Sequence[SampleTrace]]:
    """Each sample's actions, pruned by `pruner`, and the traces.

    The noise is drawn by the sample's id, or by `seeds`: every arm, and every batch size, begins with the same.
    """
    model: Any = vlm.model
    shape = model.config.chunk_size, model.config.max_action_dim
    named = [prepared.samples[place].id for place in batch.places] if seeds is None else seeds
    noise = torch.stack([noise_of(seed, shape) for seed in named]).to(model.device, model.dtype)
    pruned = attached(pruner, model, warn=False) if pruner else nullcontext()
    with torch.inference_mode(), pruned as trace:
        actions = model.sample_actions(**batch.arguments(), noise=noise)
    whole = [SampleTrace.unpruned(prepared.geometries[place]) for place in batch.places]
    return in_units(vlm.processor, actions), whole if trace is None else trace.samples


def noise_of(seed: str, shape: tuple[int, int]) -> Float[Tensor, "steps dim"]:
    """Standard normal numbers that a word stands for, drawn on the CPU wherever the model is."""
    generator = torch.Generator().manual_seed(int.from_bytes(sha256(seed.encode()).digest()[:8], "big") >> 1)
    return torch.randn(shape, generator=generator)
