"""A scorer: which visual tokens stay."""

from jaxtyping import Float
from torch import Tensor

from autoprune_lab import Evidence


def peak_attention(evidence: Evidence, heads: int = 2) -> Float[Tensor, "batch vision"]:
    """Attention that the last prompt token pays each visual token: mean over the `heads` that look at it most.

    Source: an example; the mean over all heads is arXiv 2403.06764 (FastV).
    Differs: a token that one head needs is not outvoted by those that look elsewhere.
    """
    by_head = evidence.last_row
    return by_head.topk(min(heads, by_head.shape[1]), dim=1).values.mean(1)
