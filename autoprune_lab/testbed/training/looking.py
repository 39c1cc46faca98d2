"""Where rows of a training forward look."""

import torch
from torch import Tensor

from autoprune_lab.testbed.training.reader import Reading


def places(seen: Tensor, n_prefix: int) -> Tensor:
    """Of attention (..., columns) that over the patches and, last, <s>: (..., P+1); the prefix is <s> USER: patches."""
    return torch.cat([seen[..., 2:n_prefix], seen[..., :1]], dim=-1)


def blind_start_loss(reading: Reading, n_prefix: int) -> Tensor:
    """Visual mass of the text rows in layer 0, where no tool can prune."""
    return reading.attention[0][..., 2:n_prefix].sum(-1).mean()
