"""How many answers of a batch are right."""

import torch
from torch import Tensor

from autoprune_lab.testbed.training.reader import Reading


def right_by_kind(reading: Reading, kinds: Tensor, n_kinds: int) -> Tensor:
    """Right and asked questions per kind, (2, kinds); an answer is right when all its tokens are. `kinds`: (B * Q,)."""
    wrong = torch.zeros(kinds.numel())
    wrong.index_add_(0, reading.segment, (reading.logits.argmax(-1) != reading.targets).float())
    asked = torch.bincount(kinds, minlength=n_kinds).float()
    return torch.stack([torch.bincount(kinds, (wrong == 0).float(), minlength=n_kinds), asked])
