"""Complexities on disk: read once for a model, a task, an estimator, a probe layer and an opening, whatever study asks.

The file's name is a digest of all that they depend on: the weights, the samples with their pictures, the code that
computes them, the sizes of the batches. What has changed has another name, so nothing stale is ever found.
"""

import hashlib
import inspect
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.evaluation.prompts import PreparedTask
from autoprune_lab.models.checkpoint import VLM
from autoprune_lab.pruner import Pruner
from search.study.planned import opening_of

Bits = Float[np.ndarray, "samples"]


@dataclass(frozen=True)
class ComplexityCache:
    """One `.npy` file a digest in `folder`. Several processes may read and write at once: files appear whole."""

    folder: Path
    vlm: VLM
    prepared: PreparedTask

    def read(self, pruner: Pruner) -> Bits | None:
        """The bits of every sample, in the task's order; None where nobody has written them."""
        try:
            return np.asarray(np.load(self._file(pruner)))
        except OSError:
            return None

    def write(self, pruner: Pruner, bits: Bits) -> None:
        """Keep them for the next one who asks."""
        file = self._file(pruner)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as half, half.open("wb") as stream:
            np.save(stream, bits)

    def _file(self, pruner: Pruner) -> Path:
        function: Any = getattr(pruner.complexity, "func", pruner.complexity)
        if is_dataclass(function):
            function, bound = type(function), repr(function)
        else:
            bound = str(sorted(getattr(pruner.complexity, "keywords", {}).items()))
        asked = f"{function.__module__}.{function.__qualname__} {bound} {pruner.probe_layer}"
        opened = opening_of(pruner, self.prepared.geometries)
        digest = hashlib.sha256(
            "\n".join([self.common, asked, opened, code_of(pruner.complexity)]).encode()
        ).hexdigest()
        return self.folder / f"complexity-{digest[:32]}.npy"

    @cached_property
    def common(self) -> str:
        """Digest of what all pruners share: the model, the samples in their batches, the core's code."""
        digest = hashlib.sha256()
        for part in (_model_mark(self.vlm.model), _task_mark(self.prepared), _code_mark()):
            digest.update(part)
        return digest.hexdigest()


def code_of(part: Any) -> str:
    """The code of the module that a function, a partial one or an instance comes from."""
    function = getattr(part, "func", part)
    module = inspect.getmodule(function if inspect.isfunction(function) else type(function))
    return inspect.getsource(module) if module is not None else ""


def _model_mark(model: Any) -> bytes:
    """Every weight's name, shape and sums over its rows and its columns, as whole numbers: exact on any device."""
    import torch

    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    digest = hashlib.sha256(f"{model.device.type} {model.config._attn_implementation}".encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        numbers = weight.detach().reshape(-1).view(whole[weight.element_size()])
        table = numbers.reshape(len(weight), -1) if weight.ndim else numbers.reshape(1, 1)
        for axis in (0, 1):
            digest.update(table.sum(axis, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.digest()


def _task_mark(prepared: PreparedTask) -> bytes:
    """Every sample's words, pictures and videos, and which samples run together."""
    digest = hashlib.sha256(repr([batch.places for batch in prepared.batches]).encode())
    for sample in prepared.samples:
        digest.update(repr((sample.id, sample.kind, sample.question)).encode())
        for picture in sample.images:
            digest.update(repr((picture.mode, picture.size)).encode())
            digest.update(picture.tobytes())
        for video in sample.videos:
            digest.update(repr((video.shape, video.metadata())).encode())
            digest.update(video.pixels().tobytes())
    return digest.digest()


def _code_mark() -> bytes:
    """All of the core's own code."""
    import autoprune_lab

    digest = hashlib.sha256()
    root = Path(next(iter(autoprune_lab.__path__)))
    for file in sorted(root.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
