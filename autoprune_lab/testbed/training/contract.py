"""What one world brings to the training that all worlds share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from autoprune_lab.testbed.build import Layout
from autoprune_lab.testbed.training.reader import Reading


@dataclass(frozen=True)
class Polish:
    """A last stage at a small learning rate; the running mean of the weights is what is saved.

    `rate`: of the learning rates of before, falling to 0. `memory`: part of the mean that a step leaves as it was.
    Source: arXiv 1803.05407 (averaged weights).
    Differs: the mean runs, older weights count less.
    """

    steps: int
    make_lesson: Callable[[np.random.Generator], Any]
    loss: Callable[[Reading, Any], Tensor]  # reading, lessons
    rate: float = 0.06
    memory: float = 0.99


@dataclass(frozen=True)
class Course:
    """A world's model, lessons and losses; `lessons` below is a batch of what `make_lesson` makes.

    `tally` sums its figures over a batch, one row a figure and one column a kind, then one row of how many were asked;
    `figures` names the rows. `half`: the decoder's matrices run in bfloat16. `start`: the checkpoint that
    training goes on from, stage 1 left out where it has no steps; `rate`: of the learning rates of stage 2.
    `missing`: what the lessons need that is not installed, with the remedy.
    """

    world: str
    layout: Layout
    kinds: tuple[str, ...]
    vision_steps: int
    vision_batch: int
    steps: int
    batch: int
    watched: frozenset[int]
    make_lesson: Callable[[np.random.Generator], Any]  # a dataclass of tensors
    probes: Callable[[int, int], nn.Module]  # hidden size of decoder and tower
    vision_loss: Callable[[Any, Tensor, Tensor, Any], tuple[Tensor, Tensor]]  # probes, projected, cls, lessons
    terms: Callable[[Any, Reading, Any], dict[str, Tensor]]  # probes, reading, lessons; "answer" and its guides
    tally: Callable[[Reading, Any], Tensor]  # reading, lessons
    figures: tuple[str, ...] = ("right",)
    half: bool = False
    start: str | None = None
    rate: float = 1.0
    polish: Polish | None = None
    missing: Callable[[], str | None] = lambda: None
