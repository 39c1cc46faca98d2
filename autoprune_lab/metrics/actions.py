"""Actions that a model says in numbers, and how far they lie from those that were demonstrated."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_actions(text: str, action_dim: int) -> Float[ndarray, "steps dim"] | None:
    """The numbers of a text, `action_dim` of them an action, whatever stands between; None where none is whole.

    Numbers behind the last whole action count for nothing.
    """
    numbers = [float(word) for word in _NUMBER.findall(text)]
    n = len(numbers) // action_dim
    return np.array(numbers[: n * action_dim]).reshape(n, action_dim) if n else None


def worded(actions: Float[ndarray, "steps dim"]) -> str:
    """Actions as text that `read_actions` reads: four digits a number, a semicolon between two actions."""
    return "; ".join(" ".join(f"{value:.4g}" for value in action) for action in actions)


def off_by(
    said: Float[ndarray, "said dim"] | None, done: Float[ndarray, "steps dim"], spread: Float[ndarray, "dim"]
) -> float:
    """Mean absolute distance in units of each dimension's `spread`; infinite where fewer actions were said than done.

    A dimension that never moves, whose spread is 0, is measured in its own units.
    """
    if said is None or len(said) < len(done):
        return float("inf")
    return float(np.mean(np.abs(said[: len(done)] - done) / np.where(spread > 0, spread, 1.0)))


def figures(
    said: Sequence[Float[ndarray, "_ dim"] | None], done: Sequence[Float[ndarray, "_ dim"]]
) -> dict[str, float]:
    """`l1` and `mse`, in the actions' own units, and the share `unreadable`, which count as actions of zeros."""
    whole = [one is not None and len(one) >= len(other) for one, other in zip(said, done, strict=True)]
    gaps = [
        (one[: len(other)] if one is not None and fits else np.zeros_like(other)) - other
        for one, other, fits in zip(said, done, whole, strict=True)
    ]
    return {
        "l1": float(np.mean([np.abs(gap).mean() for gap in gaps])),
        "mse": float(np.mean([np.square(gap).mean() for gap in gaps])),
        "unreadable": 1 - float(np.mean(whole)),
    }
