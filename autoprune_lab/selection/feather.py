"""FEATHER's scores: attention without the rotary embedding, and a lattice over the picture."""

import torch
from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence


def feather(evidence: Evidence, stride: int | None = 3) -> Float[Tensor, "batch vision"]:
    """Attention of the last prompt token without the rotary embedding, in [0, 1]; tokens of the lattice score 1 more.

    The attention is the mean over heads of the softmax over the *visual* tokens alone of query . key / sqrt(width), so
    nothing favours the lower end of the picture. The lattice is every `stride`-th row and column of each picture from
    its first one on; None: no lattice, as at FEATHER's second cut. Where fewer tokens stay than it has, its best do.

    Source: arXiv 2412.13180 (FEATHER), github.com/markendo/FEATHER at c2a09b2.
    Differs: float32 where the code has the model's dtype; ties go to the lower index. The code takes the top tokens
    *and* the lattice; here a count is planned, and what is left of it beside the lattice goes to the best others: the
    same set. Each picture and frame has a lattice of its own, the code knows one square picture.
    """
    if stride is not None and stride < 1:
        raise ValueError(f"stride={stride} must be >= 1 rows and columns, or null for no lattice")
    query, key = evidence.queries("text", rotary=False), evidence.keys(rotary=False)
    last = (evidence.text_mask.sum(1) - 1).clamp(min=0)[:, None, None, None]
    size, kv_heads, _, width = key.shape
    grouped = query.take_along_dim(last, 2).reshape(size, kv_heads, -1, width)  # heads that share a key stand together
    logits = grouped.float() @ key.float().mT / width**0.5
    hidden = ~evidence.vision_mask[:, None, None]
    probabilities = logits.masked_fill(hidden, torch.finfo(logits.dtype).min).softmax(-1).masked_fill(hidden, 0)
    scores: Tensor = probabilities.mean((1, 2)).double()
    if stride is None:
        return scores
    row, column = evidence.grid[..., 2], evidence.grid[..., 3]
    return scores.add((row >= 0) & (row % stride == 0) & (column % stride == 0))
