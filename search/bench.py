"""The model and the task of a study: prepared once, run by every trial."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from autoprune_lab.evaluate import evaluate, read_complexities
from autoprune_lab.geometry import Geometry
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.prompts import PreparedTask, prepare
from autoprune_lab.pruner import Pruner
from autoprune_lab.records import Records
from search.arm import build


@dataclass
class ModelBench:
    """A loaded model and a prepared task. Complexities are kept per estimator and probe layer."""

    vlm: VLM
    prepared: PreparedTask
    progress: bool = False
    known: dict[Hashable, Float[np.ndarray, "samples"]] = field(default_factory=dict)

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Sizes of every prompt, in the task's order."""
        return self.prepared.geometries

    def complexities(self, pruner: Pruner) -> Float[np.ndarray, "samples"]:
        """Bits per sample; they depend on neither policy nor budget, so each is read once."""
        if not pruner.policy.adaptive:
            return np.zeros(len(self.geometries))
        key = (_name(pruner.complexity), pruner.probe_layer)
        if key not in self.known:
            self.known[key] = read_complexities(self.vlm, self.prepared, replace(pruner, budget=None))
        return self.known[key]

    def calibrated(self, pruner: Pruner) -> Pruner:
        """The pruner with a budget that knows these samples, where it must know some and does not yet."""
        if pruner.budget is None or pruner.budget.ready:
            return pruner
        return pruner.calibrated(self.complexities(pruner), self.geometries)

    def run(self, pruner: Pruner | None) -> Records:
        """Answer every sample, pruned, or unpruned with None."""
        return evaluate(self.vlm, self.prepared, pruner, progress=self.progress)

    def run_told(self, pruner: Pruner, complexities: Float[np.ndarray, "samples"] | None) -> Records:
        """Answer every sample, the policy told these complexities; None: those that it is told anyway."""
        return evaluate(self.vlm, self.prepared, pruner, progress=self.progress, complexities=complexities)


def load(config: DictConfig) -> VLM:
    """The model of the config."""
    vlm = build(config.model, "model")
    assert isinstance(vlm, VLM)
    return vlm


def open_bench(vlm: VLM, config: DictConfig, progress: bool = False) -> ModelBench:
    """Draw the task's samples, tokenise them, and run the vision tower once."""
    task = build(config.task, "task")
    return ModelBench(vlm, prepare(vlm, task, batch_size=config.batch_size, progress=progress))


def _name(function: object) -> Hashable:
    """What a plain function or a partial one computes, as a key."""
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
