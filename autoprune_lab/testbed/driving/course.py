"""How the driving model is trained: by imitation of the expert."""

from functools import cache

import torch

from autoprune_lab.testbed.driving import losses
from autoprune_lab.testbed.driving.layout import layout, vocabulary
from autoprune_lab.testbed.driving.lessons import Lessons, make_lesson
from autoprune_lab.testbed.driving.scene import KINDS
from autoprune_lab.testbed.driving.wording import LONG, N_WAYPOINTS, SIDE
from autoprune_lab.testbed.training.contract import Course
from autoprune_lab.testbed.training.reader import Reading

ANSWER = 2 + 2 * N_WAYPOINTS  # tokens: the action, the coordinates, the end


def terms(probes: losses.Probes, reading: Reading, lessons: Lessons) -> dict[str, torch.Tensor]:
    """Every loss with its weight."""
    return {
        "answer": losses.answer_loss(reading, losses.coordinate_kernel()),
        "look": 0.3 * losses.looking_loss(reading, lessons),
        "exit": 0.3 * losses.exit_loss(probes, reading, lessons),
        "vision": 0.1 * losses.vision_loss(probes, reading.projected, reading.cls, lessons)[0],
    }


def tally(reading: Reading, lessons: Lessons) -> torch.Tensor:
    """Per kind: right actions, summed mean errors of a coordinate in metres (told the ones before), situations."""
    guess, wanted = (tokens.view(-1, ANSWER) for tokens in (reading.logits.argmax(-1), reading.targets))
    kinds = lessons.kind.flatten()[reading.segment.view(-1, ANSWER)[:, 0]]
    right = (guess[:, 0] == wanted[:, 0]).float()
    error = (_metres()[guess] - _metres()[wanted]).abs()[:, 1:-1].mean(1)
    n = len(KINDS)
    return torch.stack([torch.bincount(kinds, w, n) for w in (right, error, torch.ones_like(right))])


@cache
def _metres() -> torch.Tensor:
    """What each word of the vocabulary says, 0 for those that say no coordinate."""
    said = {*LONG, *SIDE}
    return torch.tensor([float(word) if word in said else 0.0 for word in vocabulary()])


COURSE = Course(
    world="driving",
    layout=layout(),
    kinds=KINDS,
    vision_steps=400,
    vision_batch=16,
    steps=800,
    batch=16,
    watched=losses.WATCHED,
    make_lesson=make_lesson,
    probes=losses.Probes,
    vision_loss=losses.vision_loss,
    terms=terms,
    tally=tally,
    figures=("action", "metres"),
    half=True,
)
