"""The first steps of a course's first stage."""

import torch

from autoprune_lab.testbed.build import Layout, build_untrained
from autoprune_lab.testbed.training.contract import Course
from autoprune_lab.testbed.training.optim import Optimiser
from autoprune_lab.testbed.training.reader import look_at_picture


def first_losses(course: Course, layout: Layout, lessons, steps: int) -> list[float]:
    """The vision loss of an untrained model in each of `steps` steps on one batch."""
    torch.manual_seed(0)
    model, probes = build_untrained(layout, 1), course.probes(96, 128)
    parts = [
        (model.model.vision_tower, 1.0, True),
        (model.model.multi_modal_projector, 1.0, True),
        (probes, 1.0, False),
    ]
    optimiser = Optimiser(parts, 0.015, 2e-3, 0.1, steps=400)
    values = []
    for _ in range(steps):
        loss, _ = course.vision_loss(probes, *look_at_picture(model, lessons.pixels), lessons)
        optimiser.step(loss)
        values.append(loss.item())
    return values


def placed(look: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Attention rows like `like` that fall as `look` (B Q R P+1) wants: on patches, and in its last column on <s>."""
    rows = torch.zeros_like(like)
    share = look / look.sum(-1, keepdim=True).clamp(min=1e-9)
    rows[..., 2 : 1 + look.shape[-1]] = share[:, None, ..., :-1]
    rows[..., 0] = share[:, None, ..., -1]
    return rows
