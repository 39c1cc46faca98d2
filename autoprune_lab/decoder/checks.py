"""What a user's own parts gave: its form, known at once, and what the device must say once, at a prefill's end."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoprune_lab.selection.recovery import Survivors


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


def fit(given: Any, what: str, function: Any, shape: Sequence[int], floating: bool = False) -> Tensor:
    """`given` itself; ValueError, naming the function, unless it is a tensor of real numbers of this shape."""
    fits = isinstance(given, Tensor) and given.shape == torch.Size(shape)
    if not fits or (not given.is_floating_point() if floating else given.is_complex()):
        kind = "floating-point" if floating else "real"
        raise ValueError(
            f"{what} by {named(function)} must be {kind} numbers of shape {tuple(shape)}, got {form(given)}"
        )
    tensor: Tensor = given
    return tensor


def check_survivors(given: Any, recovery: Any, shape: Sequence[int], hidden: Tensor) -> None:
    """Raise ValueError, naming the recovery, for what are no survivors of `shape` (batch, vision) and `hidden`."""
    if not isinstance(given, Survivors):
        raise ValueError(f"recovery {named(recovery)} must give Survivors, got {form(given)}")
    forms = {
        "keep": (shape, torch.bool),
        "hidden": ((*shape, hidden.shape[-1]), hidden.dtype),
        "index": (shape, torch.long),
    }
    for name, part in given._asdict().items():
        wanted, dtype = forms[name]
        fits = isinstance(part, Tensor) and part.shape == torch.Size(wanted) and part.dtype == dtype
        if not fits and (part is not None or name == "keep"):
            raise ValueError(
                f"recovery {named(recovery)} must give `{name}` as {dtype} of shape {tuple(wanted)}, got {form(part)}"
            )


def form(value: Any) -> str:
    """What a message calls it: its kind, and of a tensor its shape."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


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
