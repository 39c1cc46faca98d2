"""Scores of a trial that read no label: how like the unpruned model's the pruned model's answers are.

The unpruned model runs once; what it said is kept in memory and beside the answers of `search.study.replay`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.evaluation.evaluate import Block
from autoprune_lab.evaluation.likeness import KL, Reference, likeness, read_reference
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import Records
from search.config.goal import AGREEMENT
from search.study.evaluator import AfterBlock, Evaluator, Outcome, Prompts
from search.study.model_evaluator import ModelEvaluator
from search.study.replay import answers


def label_free(evaluator: ModelEvaluator, score: str) -> Evaluator:
    """The evaluator with a score of `search.config.goal.SCORES` that reads no label."""
    return agreeing(evaluator) if score == AGREEMENT else Likeness(unlabelled(evaluator), score)


def unlabelled(evaluator: ModelEvaluator) -> ModelEvaluator:
    """The evaluator, every score NaN: for what asks for predictions and plans alone."""
    return replace(evaluator, judge=lambda said, place: math.nan)


def agreeing(evaluator: ModelEvaluator) -> ModelEvaluator:
    """The evaluator, a sample's score 1 where its answer is the unpruned model's word for word, else 0."""
    own = unlabelled(evaluator)
    return replace(own, judge=lambda said, place: float(said == answers(own, None)[place]))


@dataclass(frozen=True)
class Likely:
    """An outcome whose records say minus a divergence in nats: exp of its means, in [0, 1]."""

    records: Records

    @property
    def score(self) -> float:
        """exp(-KL), KL the mean over the kinds."""
        return math.exp(self.records.score)

    @property
    def flops_ratio(self) -> float:
        """As measured."""
        return self.records.flops_ratio

    def by_kind(self) -> Mapping[str, float]:
        """exp(-KL) of each kind."""
        return {kind: math.exp(mean) for kind, mean in self.records.by_kind().items()}

    @property
    def by_sample(self) -> Float[np.ndarray, "answered"]:
        """exp(-KL) of each sample; their mean is not the score."""
        return np.asarray(np.exp(self.records.by_sample))


@dataclass(frozen=True)
class Compared:
    """A block of samples."""

    number: int
    is_last: bool
    outcome: Outcome
    so_far: Outcome


@dataclass
class Likeness:
    """An evaluator of `score`, `kl` or `cosine`: teacher-forced on the unpruned model's answers."""

    own: ModelEvaluator
    score: str

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Sizes of every prompt."""
        return self.own.geometries

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of every sample."""
        return self.own.kinds

    def deal(self, blocks: Sequence[int]) -> None:
        """Compare in these blocks from now on."""
        self.own.deal(blocks)

    @property
    def closed_loop(self) -> bool:
        """False: a closed loop is scored by itself."""
        return self.own.closed_loop

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """As the model's."""
        return self.own.complexities(pruner)

    def prompts(self, pruner: Pruner) -> Prompts:
        """As the model's."""
        return self.own.prompts(pruner)

    def run(self, pruner: Pruner, after_block: AfterBlock | None = None) -> Outcome:
        """Compare every sample."""

        def told(block: Block) -> None:
            assert after_block is not None
            outcomes = self._outcome(block.outcome), self._outcome(block.so_far)
            after_block(Compared(block.number, block.is_last, *outcomes))

        own, each = self.own, None if after_block is None else told
        asked = (own.vlm, own.prepared, pruner, self.reference, self.score)
        return self._outcome(likeness(*asked, own.progress, each, own.prefixes))

    def figures(self, outcome: Outcome) -> Mapping[str, float]:
        """None: the task's own need labels."""
        return {}

    def latency(self, pruner: Pruner) -> float:
        """As the model's."""
        return self.own.latency(pruner)

    @cached_property
    def reference(self) -> Reference:
        """What the unpruned model says; read from the cache where it is there."""
        file = self._file()
        if file is not None and file.is_file():
            with np.load(file) as stored:
                return Reference(**{name: stored[name] for name in stored.files})
        found = read_reference(self.own.vlm, self.own.prepared, self.own.progress)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as half, half.open("wb") as stream:
                np.savez(stream, **vars(found))
        return found

    def _outcome(self, records: Records) -> Outcome:
        return Likely(records) if self.score == KL else records

    def _file(self) -> Path | None:
        """Named by a digest of all that it depends on."""
        cache = self.own.cache
        if cache is None:
            return None
        asked = f"{cache.common} {self.own.prepared.task.max_new_tokens}"
        return cache.folder / f"unpruned-{hashlib.sha256(asked.encode()).hexdigest()[:32]}.npz"
