"""Where rows of a training forward look."""

from collections.abc import Sequence

import torch
from torch import Tensor

from autoprune_lab.testbed.training.reader import Reading
from autoprune_lab.testbed.training.token_code import TINY

LOOKING_HEADS = slice(0, 2)


def places(seen: Tensor, n_prefix: int) -> Tensor:
    """Of attention (..., columns) that over the patches and, last, <s>: (..., P+1); the prefix is <s> USER: patches."""
    return torch.cat([seen[..., 2:n_prefix], seen[..., :1]], dim=-1)


def missed_looks(reading: Reading, n_prefix: int, looks: Sequence[tuple[Sequence[int], Tensor]]) -> Tensor:
    """Minus log of the mass that the looking heads of the last row put where they should, the mean over the layers.

    `looks`: layers, and over which of the P+1 places their mass should be, (lessons, segments or 1, P+1), above 0.
    """
    loss, n_layers = torch.zeros((), device=reading.logits.device), 0
    for layers, wanted in looks:
        for layer in layers:
            seen = places(reading.attention[layer][:, LOOKING_HEADS, :, 0], n_prefix)
            loss = loss - (seen * (wanted > 0)[:, None]).sum(-1).clamp(min=TINY).log().mean()
            n_layers += 1
    return loss / n_layers


def blind_start_loss(reading: Reading, n_prefix: int) -> Tensor:
    """Visual mass of the text rows in layer 0, where no tool can prune."""
    return reading.attention[0][..., 2:n_prefix].sum(-1).mean()
