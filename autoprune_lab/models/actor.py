"""Checkpoints that answer in actions (pi0): what their processor knows of a robot, and of the data it learned from."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from autoprune_lab.models.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endfor %}{% endfor %}"
)
"""Words alone: the processor itself puts the tokens of pictures before them."""


def answers_in_actions(processor: Any) -> bool:
    """Does it normalise a robot's state and actions?"""
    return hasattr(processor, "actions_mean")


def action_shape(processor: Any) -> tuple[int, int]:
    """How many actions an answer is, and of how many numbers."""
    return processor.chunk_size, len(processor.actions_mean)


def in_units(processor: Any, actions: "Tensor") -> Float[np.ndarray, "batch steps dim"]:
    """Actions as the model makes them, (batch, steps, padded), in the robot's own units, without their padding."""
    mean, std = np.array(processor.actions_mean), np.array(processor.actions_std)
    normal = actions[..., : len(mean)].double().cpu().numpy()
    units: np.ndarray = normal * (std + 1e-8) + mean  # undoes `PI0Processor.normalize`
    return units


def check_statistics(folder: Path, processor: Any, config: Any) -> None:
    """Raise CheckpointError for a processor without its data set's statistics, and for one of another robot's model.

    Also for one of an older transformers, which takes those of some data set where the file has none.
    """
    file = folder / "processor_config.json"
    if hasattr(processor.state_mean, "dtype"):  # a tensor, of the file or not
        raise CheckpointError(f"{folder}: this transformers makes statistics up; pip install 'transformers>=5.23'")
    for what, most in (("state", config.max_state_dim), ("actions", config.max_action_dim)):
        mean, std = (getattr(processor, f"{what}_{name}") for name in ("mean", "std"))
        if mean is None or std is None:
            raise CheckpointError(
                f"{file} has no {what}_mean and {what}_std: put those of the data set there that it was trained on, as "
                "meta/stats.json of LeRobot's has them"
            )
        fit = len(mean) == len(std) <= most and all(isinstance(n, int | float) and isfinite(n) for n in (*mean, *std))
        if not fit:
            raise CheckpointError(
                f"{file}: {what}_mean and {what}_std must be equally many finite numbers, {most} at most as "
                "config.json says"
            )
    for name in ("max_state_dim", "chunk_size"):
        if (said := getattr(processor, name)) != (meant := getattr(config, name)):
            raise CheckpointError(f"{file} says {name}={said}, where config.json means {meant}")


def refuse_actions(processor: Any, name: str) -> None:
    """Raise CheckpointError where the model `name` says no tokens."""
    if answers_in_actions(processor):
        raise CheckpointError(
            f"{name} answers in actions: what goes by an answer's tokens (likeness, latency) cannot be measured of it; "
            "choose another figure"
        )
