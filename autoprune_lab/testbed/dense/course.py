"""How the `dense` model is trained."""

from functools import partial

import torch

from autoprune_lab.testbed.dense import losses
from autoprune_lab.testbed.dense.layout import layout
from autoprune_lab.testbed.dense.lessons import COUNTING, Lessons, make_lesson
from autoprune_lab.testbed.dense.wording import KINDS
from autoprune_lab.testbed.shapes.losses import answer_loss
from autoprune_lab.testbed.training.contract import Course, Polish
from autoprune_lab.testbed.training.looking import blind_start_loss
from autoprune_lab.testbed.training.patch_labels import vision_loss
from autoprune_lab.testbed.training.reader import Reading
from autoprune_lab.testbed.training.tally import right_by_kind


def terms(probes: losses.Probes, reading: Reading, lessons: Lessons) -> dict[str, torch.Tensor]:
    """Every loss with its weight."""
    return {
        "answer": answer_loss(reading),
        "look": 0.5 * losses.looking_loss(reading, lessons),
        "route": 0.3 * losses.routing_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "relation": 1.0 * losses.relation_loss(probes, reading, lessons),
        "glance": 0.1 * losses.glance_loss(reading, lessons),
        "blind": 0.03 * blind_start_loss(reading, len(lessons.prefix)),
        "vision": 0.1 * vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


def polish_loss(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Answers, and where to look: counting stays less exact without it."""
    return answer_loss(reading) + 0.2 * losses.looking_loss(reading, lessons)


def tally(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Right and asked questions per kind."""
    return right_by_kind(reading, lessons.kind.flatten(), len(KINDS))


COURSE = Course(
    world="dense",
    layout=layout(),
    kinds=KINDS,
    vision_steps=600,
    vision_batch=24,
    steps=2800,
    batch=16,
    watched=losses.WATCHED,
    make_lesson=make_lesson,
    probes=losses.Probes,
    vision_loss=vision_loss,
    terms=terms,
    tally=tally,
    half=True,
    polish=Polish(500, partial(make_lesson, weights=COUNTING), polish_loss),
)
