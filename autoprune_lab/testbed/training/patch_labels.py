"""What a tower learns first: labels of every patch, its place, and which things the picture shows."""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune_lab.testbed.training.token_code import PLACE_CODE, place_code, rms_loss, unit


@runtime_checkable
class Probes(Protocol):
    """Linear read-outs: one of each patch label, and one of the [CLS] token."""

    dense: nn.ModuleList
    presence: nn.Linear


@runtime_checkable
class Labels(Protocol):
    """B pictures of P patches."""

    @property
    def patches(self) -> Tensor:
        """(B, labels, P), 0 where there is none."""

    @property
    def presence(self) -> Tensor:
        """(B, kinds of thing), 1 where the picture shows one."""


def vision_loss(probes: Probes, projected: Tensor, cls: Tensor, lessons: Labels) -> tuple[Tensor, Tensor]:
    """Labels, place code, rms near 1, and what the [CLS] token knows; also accuracy on labelled patches."""
    loss = F.binary_cross_entropy_with_logits(probes.presence(unit(cls)), lessons.presence)
    right = []
    for i, head in enumerate(probes.dense):
        wanted = lessons.patches[:, i]
        logits = head(unit(projected))
        weight = torch.where(wanted > 0, 3.0, 1.0)
        loss = loss + (F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none") * weight).mean()
        right.append((logits.argmax(-1) == wanted)[wanted > 0].float().mean())
    grid = round(projected.shape[1] ** 0.5)
    place = (unit(projected)[..., :PLACE_CODE] - place_code(grid).to(projected.device)).square().mean()
    return loss + place + 0.1 * rms_loss(projected), torch.stack(right).detach()
