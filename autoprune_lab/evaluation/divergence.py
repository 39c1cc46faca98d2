"""What pruning does to an answer's first token, without labels; and the layer that VTW chooses by it."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.decoder.attach import attached, needs_pixels
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner


def divergences(vlm: VLM, prepared: PreparedTask, pruners: Sequence[Pruner]) -> Float[np.ndarray, "samples pruners"]:
    """Kullback-Leibler divergence, pruned from unpruned, of the probabilities of the answer's first token; in nats.

    In float32; a prefill of the task for each pruner, and an unpruned one.

    Source: github.com/lzhxmu/VTW at 34a4199 (arXiv 2405.05803), which has the logits in the model's dtype.
    """
    found = np.zeros((len(prepared.samples), len(pruners)))
    for batch in prepared.batches:
        whole = log_probabilities(vlm, batch, None)
        for column, pruner in enumerate(pruners):
            some = log_probabilities(vlm, batch, pruner)
            found[list(batch.places), column] = (some.exp() * (some - whole)).sum(-1).cpu().numpy()
    return found


def withdrawal_layer(divergences: Float[np.ndarray, "samples layers"], first: int = 5, threshold: float = 0.003) -> int:
    """VTW's layer: the first one whose mean divergence is at most `threshold`.

    `divergences` are of pruners that let no visual token enter layer `first`, or the next, and so on, of samples that
    have some; VTW takes 20. Its thresholds: 0.003, for LLaVA-1.5-13B 0.0005, for LLaVA-NeXT-7B 0.0001. ValueError
    where no layer is so near.

    Source: arXiv 2405.05803 (VTW), github.com/lzhxmu/VTW at 34a4199.
    """
    means = divergences.mean(0)
    if not (means <= threshold).any():
        least = int(means.argmin())
        raise ValueError(
            f"threshold={threshold} is met by no layer: the least mean divergence is {means[least]:.3g}, at layer "
            f"{least + first}; raise the threshold"
        )
    return int((means <= threshold).argmax()) + first


@torch.inference_mode()
def log_probabilities(vlm: VLM, batch: Batch, pruner: Pruner | None) -> Float[Tensor, "batch vocabulary"]:
    """Of the token behind each prompt's last one, in nats; prompts are padded on the left."""
    with attached(pruner, vlm.model, warn=False) if pruner else nullcontext():
        logits: Tensor = vlm.model(**batch.arguments(needs_pixels(pruner, vlm.model)), logits_to_keep=1).logits
    return logits[:, -1].float().log_softmax(-1)
