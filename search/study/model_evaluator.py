"""The model and the task of a study: prepared once, run by every trial."""

import hashlib
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from autoprune_lab.evaluation.evaluate import Block, Judge, evaluate, read_complexities, read_decisions
from autoprune_lab.evaluation.gradients import count_gradients, unpruned_logs
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import GIB, PreparedTask, prepare
from autoprune_lab.evaluation.timing import latency_ratio
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.statistics.records import Records
from autoprune_lab.tasks.base import Task
from search.config.goal import BEST
from search.config.schema import Schema
from search.study.complexity_cache import ComplexityCache
from search.study.evaluator import Outcome, Prompts
from search.study.planned import opening_of


@dataclass
class ModelEvaluator:
    """A loaded model and a prepared task.

    Complexities are kept per estimator, probe layer and opening, and in `cache`; `answered` by `search.study.replay`.
    `tells`: pruners are told the complexities that are known, so that no run reads them again: the same answers and
    FLOPs, but `scoring_flops` lacks the estimator's. `judge` scores answers instead of the task, as in `evaluate`.
    `prepare` makes the task ready again in other blocks, for `deal`.
    """

    vlm: VLM
    prepared: PreparedTask
    progress: bool = False
    known: dict[Hashable, Float[np.ndarray, "samples"]] = field(default_factory=dict)
    decisions: dict[Hashable, Prompts] = field(default_factory=dict)
    cache: ComplexityCache | None = None
    prefixes: Prefixes | None = None
    answered: dict[str, list[str]] = field(default_factory=dict)
    tells: bool = False
    judge: Judge | None = None
    prepare: Callable[[int | Sequence[int]], PreparedTask] | None = None

    @property
    def closed_loop(self) -> bool:
        """Do answers decide what is shown next? Then the samples are no more than how episodes begin."""
        return self.prepared.task.closed_loop

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Sizes of every prompt, in the task's order."""
        return self.prepared.geometries

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of every sample, in the task's order."""
        return [sample.kind for sample in self.prepared.samples]

    def deal(self, blocks: Sequence[int]) -> None:
        """Answer the samples in these blocks from now on, one for each, from 0.

        Pictures are read once more where the blocks are others than before; what was kept by batches is let go.
        """
        assert self.prepare is not None
        now = {place: batch.block for batch in self.prepared.batches for place in batch.places}
        if [now[place] for place in range(len(blocks))] == list(blocks):
            return
        by_place = [0] * (len(blocks) + len(self.prepared.left_out))  # what is left out stays so, wherever it is dealt
        for place, block in zip(self.prepared.places, blocks, strict=True):
            by_place[place] = block
        self.prepared = self.prepare(by_place)
        if self.cache is not None:
            self.cache = replace(self.cache, prepared=self.prepared)
        if self.prefixes is not None:
            self.prefixes = Prefixes(self.vlm, self.prepared, self.prefixes.most_bytes)

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """Bits per sample; of policy and budget they depend on what opens before the probe alone: each is read once."""
        if not pruner.policy.adaptive:
            return np.zeros(len(self.geometries))
        key = self._key(pruner)
        if key not in self.known:
            self.known[key] = self._read(pruner)
        return self.known[key]

    def prompts(self, pruner: Pruner) -> Prompts:
        """Complexity and size of every sample.

        Of a closed loop, where a budget must still learn how much it may spend on what, those of every decision of the
        unpruned model (`read_decisions`), which are read once, as complexities are.
        """
        if pruner.ready or not pruner.policy.adaptive or not self.closed_loop:
            return self.complexities(pruner), self.geometries
        key = self._key(pruner)
        if key not in self.decisions:
            self.decisions[key] = read_decisions(self.vlm, self.prepared, pruner, self.progress)
        return self.decisions[key]

    def calibrated(self, pruner: Pruner) -> Pruner:
        """The pruner with a budget that knows these prompts, where it must know some and does not yet."""
        return pruner if pruner.ready else pruner.calibrated(*self.prompts(pruner))

    def run(self, pruner: Pruner | None, after_block: Callable[[Block], None] | None = None) -> Records:
        """Answer every sample, pruned, or unpruned with None; see `evaluate`."""
        tells = self.tells and not self.closed_loop
        told = self.known.get(self._key(pruner)) if tells and pruner and pruner.policy.adaptive else None
        return evaluate(self.vlm, self.prepared, pruner, self.progress, told, after_block, self.prefixes, self.judge)

    def figures(self, outcome: Outcome) -> Mapping[str, float]:
        """The task's own summary."""
        assert isinstance(outcome, Records)
        return self.prepared.task.summary(outcome.rows)

    def latency(self, pruner: Pruner) -> float:
        """Time of pruned over unpruned answers, on the middle batch."""
        return latency_ratio(self.vlm, self.prepared, pruner)

    def run_with_complexities(self, pruner: Pruner, complexities: Float[np.ndarray, "samples"] | None) -> Records:
        """Answer every sample, the policy told these complexities; None: those that it is told anyway."""
        return evaluate(self.vlm, self.prepared, pruner, progress=self.progress, complexities=complexities)

    def count_gradients(self, pruner: Pruner) -> Float[np.ndarray, "samples layers"]:
        """What a visual token more in a layer is worth: `autoprune_lab.evaluation.gradients.count_gradients`."""
        return count_gradients(self.vlm, self.prepared, pruner, self.unpruned_logs, self.progress)

    @cached_property
    def unpruned_logs(self) -> Float[np.ndarray, "samples vocabulary"]:
        """Of the token behind each prompt; the unpruned model runs once."""
        return unpruned_logs(self.vlm, self.prepared)

    def _key(self, pruner: Pruner) -> Hashable:
        return _name(pruner.complexity), pruner.probe_layer, opening_of(pruner, self.geometries)

    def _read(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        bits = self.cache.read(pruner) if self.cache is not None else None
        if bits is None:
            bits = read_complexities(self.vlm, self.prepared, pruner)
            if self.cache is not None:
                self.cache.write(pruner, bits)
        return bits


def open_evaluator(vlm: VLM, task: Task, settings: Schema, progress: bool = False) -> ModelEvaluator:
    """Draw the task's samples, tokenise them, and run the vision tower once; name those that cannot be shown."""

    def in_blocks(blocks: int | Sequence[int]) -> PreparedTask:
        return prepare(
            vlm,
            task,
            batch_size=settings.batch_size,
            progress=progress,
            most_bytes=None if settings.features_gib is None else int(settings.features_gib * GIB),
            blocks=blocks,
        )

    prepared = in_blocks(settings.search.blocks if settings.search.mode == BEST else 1)
    for left in prepared.left_out.values():
        print(f"autoprune: task {prepared.task.name}: left out {left.id}: {left.reason}", file=sys.stderr)
    cache = ComplexityCache(Path(settings.cache), vlm, prepared) if settings.cache is not None else None
    prefixes = Prefixes(vlm, prepared, int(settings.prefix_gib * GIB))
    return ModelEvaluator(vlm, prepared, progress, cache=cache, prefixes=prefixes, prepare=in_blocks)


def _name(function: object) -> Hashable:
    """What a plain function, a partial one or a dataclass that is called computes, as a key."""
    if is_dataclass(function):
        return repr(function)  # its class and all of its numbers
    bound = tuple(sorted(getattr(function, "keywords", {}).items()))
    inner: Any = getattr(function, "func", function)
    return f"{inner.__module__}.{inner.__qualname__}", bound


def fingerprint(prepared: PreparedTask) -> str:
    """Twelve letters that change with the task's samples: ids, questions and answers."""
    mark = hashlib.sha256(prepared.task.name.encode())
    for sample in prepared.samples:
        mark.update(repr((sample.id, sample.question, sample.answers, sample.kind)).encode())
    return mark.hexdigest()[:12]


def weights_mark(folder: Path) -> str:
    """Twelve letters that change when the weights do: sizes and the first MiB of every file."""
    mark = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        mark.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as stream:
            mark.update(stream.read(1 << 20))
    return mark.hexdigest()[:12]
