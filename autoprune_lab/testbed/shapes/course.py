"""How the `shapes` model is trained."""

import torch

from autoprune_lab.testbed.shapes import losses
from autoprune_lab.testbed.shapes.layout import layout
from autoprune_lab.testbed.shapes.lessons import Lessons, make_lesson
from autoprune_lab.testbed.shapes.wording import KINDS
from autoprune_lab.testbed.training.contract import Course
from autoprune_lab.testbed.training.reader import Reading


def terms(probes: losses.Probes, reading: Reading, lessons: Lessons) -> dict[str, torch.Tensor]:
    """Every loss with its weight."""
    return {
        "answer": losses.answer_loss(reading),
        "look": 0.5 * losses.looking_loss(reading, lessons),
        "route": 0.3 * losses.routing_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "place": 1.0 * losses.place_loss(probes, reading, lessons),
        "relation": 1.0 * losses.relation_loss(probes, reading, lessons),
        "glance": 0.1 * losses.glance_loss(reading, lessons),
        "blind": 0.03 * losses.blind_start_loss(reading),
        "vision": 0.1 * losses.vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


def tally(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Right and asked questions per kind; an answer is right when all its tokens are."""
    kinds = lessons.kind.flatten()
    wrong = torch.zeros(kinds.numel())
    wrong.index_add_(0, reading.segment, (reading.logits.argmax(-1) != reading.targets).float())
    asked = torch.bincount(kinds, minlength=len(KINDS)).float()
    return torch.stack([torch.bincount(kinds, (wrong == 0).float(), minlength=len(KINDS)), asked])


COURSE = Course(
    world="shapes",
    layout=layout(),
    kinds=KINDS,
    vision_steps=1200,
    vision_batch=32,
    steps=2000,
    batch=16,
    watched=losses.WATCHED,
    make_lesson=make_lesson,
    probes=losses.Probes,
    vision_loss=losses.vision_loss,
    terms=terms,
    tally=tally,
)
