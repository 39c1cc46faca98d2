"""How the driving model learns to drive in a closed loop: it goes on from the one that plans in the open loop."""

from dataclasses import replace

from autoprune_lab.testbed.driving import course
from autoprune_lab.testbed.driving_loop.lessons import make_lesson

COURSE = replace(
    course.COURSE,
    world="driving_loop",
    vision_steps=0,
    steps=260,
    batch=12,
    make_lesson=make_lesson,
    start="embedded:driving-s0",
    rate=0.5,
)
