"""Evidence that holds given tensors, for what the official code computes on them."""

import torch
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.plugins.plain_evidence import evidence_of, source_of


def given(n: int, counts: list[int] | None = None, **tensors: Tensor) -> Evidence:
    """Evidence of `n` visual tokens; `counts` of a ragged batch. `tensors`, by the source's names without `_`.

    One without the batch's axis is that of the only sample. What is not given is drawn.
    """
    size = len(counts) if counts else 1
    evidence = evidence_of(torch.zeros(size, 1, 3, n), counts)
    for name, value in tensors.items():
        held = getattr(source_of(evidence), f"{name}_")
        setattr(source_of(evidence), f"{name}_", value if value.ndim == held.ndim else value[None])
    return evidence


def picked(scores: Tensor, n: int) -> list[int]:
    """The `n` best of the first sample, the best first."""
    return scores[0].argsort(descending=True, stable=True)[:n].tolist()


def counts_of(*values: int) -> Tensor:
    """What a plan tells a recovery, by sample."""
    return torch.tensor(values)
