"""What the objective asks of a model with a task in front of it, and reads of its answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry


class Outcome(Protocol):
    """What the objective reads of an evaluation; `autoprune_lab.statistics.records.Records` is one."""

    @property
    def score(self) -> float:
        """In [0, 1]."""

    @property
    def flops_ratio(self) -> float:
        """In (0, 1]."""

    def by_kind(self) -> Mapping[str, float]:
        """Score of each kind of question."""

    @property
    def by_sample(self) -> Float[np.ndarray, "answered"]:
        """Score of each sample that was answered, in the task's order."""


class Part(Protocol):
    """A block of samples that has been answered; `autoprune_lab.evaluation.evaluate.Block` is one."""

    @property
    def number(self) -> int:
        """From 0."""

    @property
    def is_last(self) -> bool:
        """Are all samples answered?"""

    @property
    def outcome(self) -> Outcome:
        """Of the block alone."""

    @property
    def so_far(self) -> Outcome:
        """Of all blocks up to it."""


AfterBlock = Callable[[Part], None]
Prompts = tuple[Float[np.ndarray, "prompts"], Sequence[Geometry]]


class Evaluator(Protocol):
    """A model with a task in front of it; a test may bring its own."""

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Sizes of every prompt."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of every sample."""

    @property
    def closed_loop(self) -> bool:
        """Do answers decide what is shown next?"""

    def deal(self, blocks: Sequence[int]) -> None:
        """From now on answer the samples in these blocks, one for each sample, from 0."""

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """Bits per sample at the pruner's probe layer; zeros for a policy that is not adaptive."""

    def prompts(self, pruner: Pruner) -> Prompts:
        """Complexity and size of every prompt that the pruner's plans are made for."""

    def run(self, pruner: Pruner, after_block: AfterBlock | None = None) -> Outcome:
        """Answer every sample; `after_block` may raise, which ends the run."""

    def figures(self, outcome: Outcome) -> Mapping[str, float]:
        """The task's own summary."""

    def latency(self, pruner: Pruner) -> float:
        """Time of pruned over unpruned answers."""
