"""Opening: a cut before the probe layer, made without the sample's number, so that probing deeper costs little."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from autoprune_lab.schedule.curve import whole_tokens


class Opening(NamedTuple):
    """So many `tokens` of each sample enter `layer`: the best scored ones, the others are forgotten."""

    layer: int
    tokens: Int[np.ndarray, "batch"]


def check_opening(opening: int | float | None) -> None:
    """Raise ValueError for what is neither a whole number of tokens >= 1 nor a fraction in (0, 1); None opens nothing.

    1.0 is neither: it could be meant as one token, or as all of them.
    """
    if opening is None:
        return
    whole = isinstance(opening, int) and not isinstance(opening, bool)
    if not (opening >= 1 if whole else isinstance(opening, float) and 0 < opening < 1):
        raise ValueError(
            f"opening={opening!r} must be a whole number of tokens from 1, a fraction in (0, 1), or null for no opening"
        )


def left_open(opening: int | float | None, n_vision: Int[np.ndarray, "*batch"]) -> Int[np.ndarray, "*batch"]:
    """Visual tokens of each sample that a checked `opening` leaves: never more than it has, at least one of any.

    A fraction is of the sample's own tokens, rounded down.
    """
    if opening is None:
        return n_vision
    most = opening if opening >= 1 else np.maximum(whole_tokens(np.full(n_vision.shape, float(opening)), n_vision), 1)
    return np.asarray(np.minimum(most, n_vision))


def check_room(free_from: int, max_cuts: int | None) -> None:
    """Raise ValueError where an opening before layer 0 leaves no layer to the probe, or no cut to the plan.

    `free_from` is the layer behind the probe.
    """
    if free_from == 0:
        raise ValueError(
            "probe_layer=-1 with an opening before layer 0: the probe must come behind it; take probe_layer >= 0, or a "
            "budget without opening"
        )
    if max_cuts == 1:
        raise ValueError("max_cuts=1 is spent by the opening: take at least 2, or a budget without opening")
