"""How the driving model learns to drive in a closed loop: it goes on from the one that plans in the open loop."""

from dataclasses import replace

from torch import Tensor

from autoprune_lab.testbed.driving import course
from autoprune_lab.testbed.driving.lessons import Lessons
from autoprune_lab.testbed.driving.losses import answer_loss, coordinate_kernel
from autoprune_lab.testbed.driving_loop.lessons import closed_lesson, make_lesson
from autoprune_lab.testbed.training.contract import Polish
from autoprune_lab.testbed.training.reader import Reading


def polish_loss(reading: Reading, lessons: Lessons) -> Tensor:
    """The answer's alone."""
    return answer_loss(reading, coordinate_kernel())


COURSE = replace(
    course.COURSE,
    world="driving_loop",
    vision_steps=0,
    steps=600,
    batch=12,
    make_lesson=make_lesson,
    start="embedded:driving-s0",
    rate=0.5,
    polish=Polish(150, closed_lesson, polish_loss, rate=0.25, memory=0.95),
)
