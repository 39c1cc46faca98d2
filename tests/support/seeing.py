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
