"""How the driver of the highway is asked, and what it may answer: one of highway-env's meta-actions."""

from collections.abc import Sequence

import numpy as np

from autoprune_lab.testbed.highway.expert import ACTIONS
from autoprune_lab.testbed.highway.scene import FASTEST, SLOWEST

TEMPLATES = (
    "speed {speed} m/s .",
    "you drive at {speed} m/s . what next ?",
    "the car does {speed} m/s ; choose an action .",
)


def told(speed: float) -> int:
    """The speed in whole m/s, as the driver is told it."""
    return int(np.clip(round(speed), SLOWEST, FASTEST))


def question(speed: float, rng: np.random.Generator) -> str:
    """The speed in one of several wordings."""
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(speed=told(speed))


def parse(text: str) -> str | None:
    """The action; None where the text is none."""
    return text if text in ACTIONS else None


def words() -> Sequence[str]:
    """Every word of questions and answers, in a fixed order."""
    asked = {word for text in TEMPLATES for word in text.split() if word[0] != "{"}
    return [*map(str, range(SLOWEST, FASTEST + 1)), *sorted(asked), *ACTIONS]
