"""Evidence of tensors that a test gives, where `plain_evidence` draws its own."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.plain_evidence import PlainSource, evidence_of


@dataclass
class GivenSource(PlainSource):
    """Gives what is in `given` by the name of what is asked for and its arguments, such as ("keys", "text", True)."""

    given: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    def normed(self, of: Any) -> Tensor:
        return self.given["normed", of]

    def keys(self, of: Any, rotary: bool) -> Tensor:
        return self.given["keys", of, rotary]

    def queries(self, of: Any, rotary: bool) -> Tensor:
        return self.given["queries", of, rotary]


def given_evidence(
    n_vision: int, n_rows: int, given: dict[tuple[Any, ...], Tensor] | None = None, **tensors: Tensor
) -> Evidence:
    """One sample's evidence; `tensors` in place of those that the plain source holds, such as grid_ and hidden_."""
    evidence = evidence_of(torch.zeros(1, 1, n_rows, n_vision))
    return replace(evidence, source=GivenSource(**vars(evidence.source) | tensors, given=given or {}))


def grid_of(height: int, width: int, picture: int = 0, t: int = 0) -> Tensor:
    """Places of one picture's tokens, (height * width, 4)."""
    n = torch.arange(height * width)
    return torch.stack([0 * n + picture, 0 * n + t, n // width, n % width], dim=-1)
