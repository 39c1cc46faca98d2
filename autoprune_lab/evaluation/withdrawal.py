"""The layer behind which a model needs no visual token: VTW's choice, by what the next token's probabilities lose."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.decoder.attach import attached
from autoprune_lab.evaluation.prompts import Batch, PreparedTask
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.curve import Shape, staircase
from autoprune_lab.schedule.policy import Policy, Signal
from autoprune_lab.selection.scorers import uniform


def withdrawal_divergences(
    vlm: VLM, prepared: PreparedTask, first: int = 5
) -> Float[np.ndarray, "samples layers"]:
    """What it costs to let no visual token enter layer `first`, or the next one, and so on, in nats.

    The Kullback-Leibler divergence of the probabilities of the answer's first token, withdrawn from whole; 0 for a
    sample without visual tokens. A prefill of the task for each layer: VTW takes 20 samples. Raises ValueError for a
    `first` that no layer of the decoder has.

    Source: arXiv 2405.05803 (VTW), github.com/lzhxmu/VTW at 34a4199.
    Differs: float32, where the code has the model's dtype.
    """
    n_layers = prepared.geometries[0].n_layers
    if not 0 <= first < n_layers:
        raise ValueError(f"first={first} must be a layer of the decoder, 0 to {n_layers - 1}")
    found = np.zeros((len(prepared.samples), n_layers - first))
    for batch in prepared.batches:
        whole = _log_probabilities(vlm, batch, None)
        for layer in range(first, n_layers):
            some = _log_probabilities(vlm, batch, layer)
            found[list(batch.places), layer - first] = (some.exp() * (some - whole)).sum(-1).cpu().numpy()
    return found


def withdrawal_layer(
    divergences: Float[np.ndarray, "samples layers"], threshold: float = 0.003, first: int = 5
) -> int:
    """The first layer whose mean divergence is at most `threshold`; `first` as `withdrawal_divergences` was told.

    VTW's thresholds: 0.003, for LLaVA-1.5-13B 0.0005, for LLaVA-NeXT-7B 0.0001. ValueError where no layer is so near.
    """
    means = divergences.mean(0)
    if not (means <= threshold).any():
        least = int(means.argmin())
        raise ValueError(
            f"threshold={threshold} is met by no layer: the least mean divergence is {means[least]:.3g}, at layer "
            f"{least + first}; raise the threshold"
        )
    return int((means <= threshold).argmax()) + first


@dataclass(frozen=True)
class _Until(Policy):
    """Every visual token enters the layers before `layer`, none the others."""

    layer: int

    def shape(self, signal: Signal) -> Shape:
        return staircase(signal.n_layers, [self.layer], [0.0])


@torch.inference_mode()
def _log_probabilities(vlm: VLM, batch: Batch, layer: int | None) -> Float[Tensor, "batch vocabulary"]:
    """Of the answer's first token; prompts are padded on the left."""
    if layer is None:
        logits = vlm.model(**batch.arguments(), logits_to_keep=1).logits
    else:
        with attached(Pruner(_Until(layer), scorer=uniform, probe_layer=-1), vlm.model, warn=False):
            logits = vlm.model(**batch.arguments(), logits_to_keep=1).logits
    return torch.as_tensor(logits[:, -1].float().log_softmax(-1))
