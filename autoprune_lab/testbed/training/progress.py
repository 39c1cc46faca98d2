"""What of a training is on disk: checkpoints of its stages, and a record of what the finished model was made with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.folder import WHOLE, read_json
from autoprune_lab.testbed.training.contract import Course
from autoprune_lab.testbed.training.optim import Optimiser

RECORD = "training.json"
Recipe = Mapping[str, Any]


def recipe(course: Course, seed: int, steps: int, processes: int) -> Recipe:
    """What tells one training from another, as plain values."""
    return {
        "world": course.world,
        "seed": seed,
        "steps": steps,
        "processes": processes,
        "vision_steps": course.vision_steps,
        "batch": course.batch,
        "vision_batch": course.vision_batch,
        "half": course.half,
        "layers": course.layout.n_layers,
        "hidden": course.layout.hidden,
        "image_size": course.layout.image_size,
        "patch": course.layout.patch,
        "words": len(course.layout.words),
        **({} if course.start is None else {"start": course.start, "rate": course.rate}),
        **({} if course.polish is None else {"polish_steps": course.polish.steps}),
    }


def is_finished(out: Path, made_with: Recipe) -> bool:
    """Is there a model at `out` that is not half done? CheckpointError where its record names another recipe."""
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is a file; give --out a folder")
    if not (out / WHOLE).exists():
        return False
    if (out / RECORD).exists():
        _compare(out / RECORD, read_json(out / RECORD), made_with)
        return True
    return not any(out.glob("*.pt"))  # it came from elsewhere, or was killed while it was saved


def write_record(out: Path, made_with: Recipe) -> None:
    """Says that the model at `out` is finished."""
    with atomic_write(out / RECORD) as half:
        half.write_text(json.dumps(made_with, indent=2) + "\n")


@dataclass(frozen=True)
class Checkpoint:
    """One stage's file; only the process that `writes` keeps it."""

    file: Path
    made_with: Recipe
    writes: bool

    def keep(self, step: int, model: nn.Module, beside: nn.Module, optimiser: Optimiser) -> None:
        """Write the state after `step` steps; a run that is killed meanwhile leaves the one before.

        `beside` the model: the probes, or what is averaged.
        """
        if self.writes:
            state = {"model": model.state_dict(), "beside": beside.state_dict(), "optimiser": optimiser.state()}
            with atomic_write(self.file) as half:
                torch.save({**state, "step": step, "recipe": dict(self.made_with)}, half)

    def resume(self, model: nn.Module, beside: nn.Module, optimiser: Optimiser) -> int:
        """Load what was kept; the step to go on from, 0 where nothing was. CheckpointError where it does not fit."""
        if not self.file.exists():
            return 0
        try:
            state = torch.load(self.file)
            made_with = dict(state["recipe"])
        except Exception as error:  # whatever lies there
            raise CheckpointError(
                f"{self.file} cannot be gone on from ({one_line(error, 100)}): delete it, and its stage starts over"
            ) from error
        _compare(self.file, made_with, self.made_with)
        model.load_state_dict(state["model"])
        beside.load_state_dict(state["beside"])
        optimiser.load(state["optimiser"])
        return int(state["step"])


def _compare(file: Path, before: Recipe, now: Recipe) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise CheckpointError(
                f"{file} was made with {name}={before.get(name)}, not {value}: ask for the same, or give another --out"
            )
