"""A complexity estimator: what an adaptive policy is told about a sample."""

import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab import Evidence


def concentration(evidence: Evidence) -> Float[Tensor, "batch"]:
    """How far the last prompt token's attention is from even, in bits: log2(tokens) - entropy, in [0, log2(tokens)].

    Many bits: the answer is looked for in few places. 0 for a sample without visual tokens.

    Source: an example; entropy of text attention as a measure is arXiv 2509.23931 (AutoPrune).
    Differs: AutoPrune takes the mutual information of all text rows.
    """
    looks = evidence.last_row_mean
    share = looks / looks.sum(1, keepdim=True).clamp(min=1e-30)
    entropy = torch.special.entr(share).sum(1) / torch.tensor(2.0).log()
    return evidence.vision_mask.sum(1).clamp(min=1).log2() - entropy
