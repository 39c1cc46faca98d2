"""A task answered batch by batch: only one batch is in memory, and answers reach the disk as they come."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from autoprune_lab.evaluation.answers import Answer, Answers
from autoprune_lab.evaluation.evaluate import evaluate, read_complexities, read_decisions
from autoprune_lab.evaluation.prompts import BATCH_SIZE, PreparedTask, by_length, prepare
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import LeftOut
from autoprune_lab.tasks.base import Episode, Sample, Task
from autoprune_lab.tasks.drawn import TOGETHER, is_long

Places = tuple[int, ...]
Parts = TypeVar("Parts", list[Places], range)

SOON = 5.0  # seconds until the first answers are written


@dataclass(frozen=True)
class Shard:
    """What one of `of` processes answers: every `of`-th batch, from the `index`-th on; `index` counts from 1.

    Of a task whose batches are not all made before the first is answered: every `of`-th sample.
    """

    index: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError unless 1 <= index <= of."""
        if not 1 <= self.index <= self.of:
            raise ValueError(f"shard {self.index}/{self.of}: the first number must be from 1 to the second")

    def share(self, parts: Parts) -> Parts:
        """This shard's parts, batches or places; those of all shards are all of them."""
        return parts[self.index - 1 :: self.of]


WHOLE = Shard()


@dataclass(frozen=True, eq=False)
class Stream:
    """A task as batches of like length, the same batches as `prepare` makes, prepared one at a time.

    Of very many samples that are made from seeds, some thousand are made and put into batches at a time, so that the
    first answers need not wait for all questions.

    `bars`: show how many samples are done, samples/s and the time left.
    """

    vlm: VLM
    task: Task
    batch_size: int = BATCH_SIZE
    bars: bool = False

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All samples of the task; pictures in files are not opened."""
        return self.task.samples()

    @cached_property
    def batches(self) -> list[Places]:
        """The samples' places in the task, batch by batch, of like length in the whole task."""
        return self._grouped(range(len(self.samples)))

    def answer(self, arms: Mapping[Answers, Pruner | None], shard: Shard = WHOLE, every: float = 30.0) -> None:
        """Answer what each arm lacks of the shard, and add it to the arm's folder.

        A batch's features serve all arms. Parts are written after the first SOON seconds, then `every` so many seconds
        and at the end, also when an error or Ctrl-C is the end: what is lost is the batch under way, or to kill -9 that
        many seconds. Samples that cannot be shown to the model are noted in the folders too.
        """
        done = {answers: answers.places() | answers.left_out().keys() for answers in arms}
        missing = {answers: set(range(len(self.samples))) - done[answers] for answers in arms}
        mine = self._places(shard)
        n_done = sum(place in done[answers] for answers in arms for place in mine)
        pending = _Pending({answers: [] for answers in arms}, every)
        try:
            with progress(
                doing=f"answering {self.task.name}",
                total=len(arms) * len(mine),
                initial=n_done,
                unit="samples",
                shown=self.bars,
            ) as bar:
                for places in self._shares(shard, set().union(*missing.values())):
                    for answers, rows, left_out in self._answer(places, arms, missing):
                        pending.add(answers, rows)
                        answers.leave_out(left_out)
                        bar.update(len(rows) + len(left_out))
        finally:
            pending.write()

    def calibrated(self, pruner: Pruner) -> Pruner:
        """The pruner with a budget that knows the task's samples, where it must know some and does not yet.

        Of a closed loop it knows every decision of the unpruned model (`read_decisions`).
        """
        if pruner.ready:
            return pruner
        if pruner.policy.adaptive and self.task.closed_loop:
            whole = prepare(self.vlm, self.task, batch_size=len(self.batches[0]), keep_features=False)
            return pruner.calibrated(*read_decisions(self.vlm, whole, pruner, self.bars))
        bits, geometries = dict[int, float](), dict[int, Geometry]()
        for places in progress(self.batches, doing=f"calibrating on {self.task.name}", unit="batches", shown=self.bars):
            prepared = self._prepared(places, keep_features=pruner.policy.adaptive)
            shown = [places[i] for i in prepared.places]
            bits.update(zip(shown, read_complexities(self.vlm, prepared, pruner), strict=True))
            geometries.update(zip(shown, prepared.geometries, strict=True))
        order = sorted(geometries)
        return pruner.calibrated(np.array([bits[place] for place in order]), [geometries[place] for place in order])

    def _places(self, shard: Shard) -> Sequence[int]:
        """What the shard answers."""
        if is_long(self.samples):
            return shard.share(range(len(self.samples)))
        return [place for places in shard.share(self.batches) for place in places]

    def _shares(self, shard: Shard, missing: set[int]) -> Iterator[Places]:
        """The shard's batches; where samples are made as they are needed, without those of which nothing is missing."""
        if not is_long(self.samples):
            yield from shard.share(self.batches)
            return
        mine = shard.share(range(len(self.samples)))
        for start in range(0, len(mine), TOGETHER):
            window = mine[start : start + TOGETHER]
            if not missing.isdisjoint(window):
                yield from self._grouped(window)

    def _grouped(self, places: Sequence[int]) -> list[Places]:
        """Batches of these samples."""
        chosen = [self.samples[place] for place in places]
        groups = by_length(self.vlm.processor, chosen, self.batch_size)
        return [tuple(places[i] for i in group) for group in groups]

    def _answer(
        self, places: Places, arms: Mapping[Answers, Pruner | None], missing: Mapping[Answers, set[int]]
    ) -> Iterable[tuple[Answers, list[Answer], dict[int, LeftOut]]]:
        """What each arm that lacks some of a batch answers to all of it that some arm lacks, and what it leaves out."""
        wanted = tuple(place for place in places if any(place in lacks for lacks in missing.values()))
        if not wanted:
            return
        prepared = self._prepared(wanted)
        shown = [wanted[i] for i in prepared.places]
        for answers, pruner in arms.items():
            lacking = missing[answers].intersection(wanted)
            rows: list[Answer] = []
            if not lacking.isdisjoint(shown):
                records = evaluate(self.vlm, prepared, pruner)
                share = records.seconds / len(shown)
                answered = zip(shown, records.rows, strict=True)
                rows = [Answer(place, row, share) for place, row in answered if place in lacking]
            if lacking:
                left_out = {wanted[i]: sample for i, sample in prepared.left_out.items() if wanted[i] in lacking}
                yield answers, rows, left_out

    def _prepared(self, places: Places, keep_features: bool = True) -> PreparedTask:
        part = Part(self.task.name, self.task.max_new_tokens, self.task, tuple(self.samples[i] for i in places))
        return prepare(self.vlm, part, batch_size=len(places), keep_features=keep_features, may_be_empty=True)


@dataclass(frozen=True)
class Part(Task):
    """Some samples of a task."""

    name: str
    max_new_tokens: int
    whole: Task
    chosen: tuple[Sample, ...] = field(repr=False)

    def samples(self) -> tuple[Sample, ...]:
        """Those."""
        return self.chosen

    def score(self, prediction: str, sample: Sample) -> float:
        """As the task does."""
        return self.whole.score(prediction, sample)

    def episode(self, sample: Sample) -> Episode | None:
        """As the task does."""
        return self.whole.episode(sample)

    def actions(self) -> tuple[int, int] | None:
        """As the task does."""
        return self.whole.actions()


@dataclass(eq=False)
class _Pending:
    """Answers that are not on disk yet."""

    rows: dict[Answers, list[Answer]]
    every: float
    since: float = field(default_factory=time.monotonic)
    is_first: bool = True

    def add(self, answers: Answers, rows: list[Answer]) -> None:
        self.rows[answers] += rows
        if time.monotonic() - self.since >= (min(SOON, self.every) if self.is_first else self.every):
            self.write()

    def write(self) -> None:
        for answers, rows in self.rows.items():
            answers.add(rows)
            rows.clear()
        self.since, self.is_first = time.monotonic(), False
