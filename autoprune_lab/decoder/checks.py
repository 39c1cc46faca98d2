"""What the device must say about a prefill, asked once, at its end: no scores were NaN, no recovery miscounted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class NaNError(ValueError):
    """Scores that are no numbers: the weights or the pictures hold NaN, or float16 ran over; one line."""


class Cut(NamedTuple):
    """One cut: the slots of visual tokens before it, `n_vision` of them real, and the `wanted` ones to keep."""

    scorer: Callable[..., Tensor]
    layer: int
    scores: Float[Tensor, "batch vision"]
    keep: Bool[Tensor, "batch vision"]
    n_vision: Int[np.ndarray, "batch"]
    wanted: Int[np.ndarray, "batch"]


class Checks:
    """The cuts that nobody has looked at yet."""

    def __init__(self) -> None:
        self._cuts = list[Cut]()

    def add(self, cut: Cut) -> None:
        """Remember a cut, nothing computed."""
        self._cuts.append(cut)

    def settle(self, recovery: Any) -> None:
        """Raise ValueError for the first cut whose scores are NaN, or that keeps another count than planned."""
        if not self._cuts:
            return
        cuts, self._cuts = self._cuts, []
        nan = torch.cat([cut.scores for cut in cuts], dim=1).isnan()
        keep = torch.cat([cut.keep for cut in cuts], dim=1)
        widths = [cut.scores.shape[1] for cut in cuts]
        flags = np.split(torch.stack([nan, keep]).cpu().numpy(), np.cumsum(widths)[:-1], axis=2)
        for cut, width, of_all in zip(cuts, widths, flags, strict=True):
            is_nan, kept = of_all & (np.arange(width) < cut.n_vision[:, None])
            refuse_nan(bool(is_nan.any()), "scores", cut.scorer, cut.layer)
            if (kept.sum(1) != cut.wanted).any():
                raise ValueError(
                    f"recovery {named(recovery)} must keep exactly the planned count of every sample's real slots"
                )


def named(function: Any) -> str:
    """What its author calls it."""
    return str(getattr(function, "__name__", repr(function)))


def refuse_nan(found: bool, what: str, function: Any, layer: int) -> None:
    """Raise NaNError, naming the function and the layer, if NaN was `found`."""
    if found:
        raise NaNError(
            f"{what} by {named(function)} on the attention of layer {layer} holds NaN: "
            "check the inputs, or load the model in bfloat16 or float32"
        )
