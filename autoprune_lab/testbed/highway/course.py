"""How the highway model is trained: by imitation of the expert, on rides of highway-env and on roads of its drawing."""

import torch

from autoprune_lab.testbed.highway import losses
from autoprune_lab.testbed.highway.expert import ACTIONS
from autoprune_lab.testbed.highway.layout import layout
from autoprune_lab.testbed.highway.lessons import Lessons, make_lesson
from autoprune_lab.testbed.highway.simulator import missing
from autoprune_lab.testbed.training.contract import Course
from autoprune_lab.testbed.training.reader import Reading


def terms(probes: losses.Probes, reading: Reading, lessons: Lessons) -> dict[str, torch.Tensor]:
    """Every loss with its weight."""
    return {
        "answer": losses.answer_loss(reading),
        "look": 0.3 * losses.looking_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "vision": 0.1 * losses.vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


def tally(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Per wanted action: right ones, questions."""
    guess, wanted = (tokens.view(-1, 2)[:, 0] for tokens in (reading.logits.argmax(-1), reading.targets))
    kinds = lessons.action.flatten()[reading.segment.view(-1, 2)[:, 0]]
    right = (guess == wanted).float()
    return torch.stack([torch.bincount(kinds, w, len(ACTIONS)) for w in (right, torch.ones_like(right))])


COURSE = Course(
    world="highway",
    layout=layout(),
    kinds=ACTIONS,
    vision_steps=250,
    vision_batch=16,
    steps=450,
    batch=16,
    watched=losses.WATCHED,
    make_lesson=make_lesson,
    probes=losses.Probes,
    vision_loss=losses.vision_loss,
    terms=terms,
    tally=tally,
    half=True,
    missing=missing,
)
