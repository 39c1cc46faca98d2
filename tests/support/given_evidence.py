"""Evidence of one sample that gives what a test gives it, by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Source


class GivenSource:
    """A `Source` of tensors, or of functions of what was asked for; what was not given is a KeyError."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given


def _giver(name: str) -> Callable[..., Any]:
    def give(self: GivenSource, *asked: Any) -> Any:
        given = self.given[name]
        return given(*asked) if callable(given) else given

    return give


for _name in (name for name in vars(Source) if not name.startswith("_")):
    setattr(GivenSource, _name, _giver(_name))


def given_evidence(n_vision: int, n_rows: int = 1, **given: Any) -> Evidence:
    """Tensors of one sample, without the batch axis."""
    batched = {name: value[None] if isinstance(value, Tensor) else value for name, value in given.items()}
    vision, rows = torch.ones(1, n_vision, dtype=torch.bool), torch.ones(1, n_rows, dtype=torch.bool)
    return Evidence(1, vision, rows, torch.arange(n_vision)[None], GivenSource(batched))  # type: ignore[arg-type]


def made(recovery: Any, evidence: Evidence, scores: Tensor, n_kept: int, n_merged: int) -> tuple[list[int], Tensor]:
    """The indices of what stays, in its order, and its hidden states."""
    counts = (torch.tensor([n]) for n in (n_kept, n_merged))
    survivors = recovery(evidence, scores[None], *counts)
    slots = survivors.keep[0].nonzero().flatten()
    index = evidence.index if survivors.index is None else survivors.index
    hidden = evidence.hidden if survivors.hidden is None else survivors.hidden
    return index[0, slots].tolist(), hidden[0, slots]


def with_weights(evidence: Evidence) -> Evidence:
    """The same with one-hot hidden states: what stays then says how much of each token is in it."""
    assert isinstance(evidence.source, GivenSource)
    eye = torch.eye(evidence.vision_mask.shape[1])[None]
    return Evidence(
        1, evidence.vision_mask, evidence.text_mask, evidence.index,
        GivenSource(evidence.source.given | {"hidden": eye}),  # type: ignore[arg-type]
    )  # fmt: skip


def grid_of(height: int, width: int, picture: int = 0, t: int = 0) -> Tensor:
    """Places of one picture's tokens, (height * width, 4)."""
    n = torch.arange(height * width)
    return torch.stack([0 * n + picture, 0 * n + t, n // width, n % width], dim=-1)
