"""G-Prune: tokens that many others point to, by norms that flow through a graph of like tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.diversity import visual

_LEAST = 1e-6  # a cosine of less, per temperature, is no edge in the official code


@dataclass(frozen=True)
class Gprune:
    """What arrives at a token when norms flow along edges for some steps, divided by its number of edges; >= 0.

    Tokens of cosine >= `similarity` share an edge, each one has an edge to itself. A token's weights are the softmax of
    cosine / `temperature` over its edges. Hidden states are compared.

    Source: arXiv 2501.02268, and github.com/jytmelon/G-Prune at 762c637.
    Differs: `Budget` says how many stay. All tokens of a sample are one graph; the official code takes a second
    picture, of tiles, for a graph of its own, and always keeps its row ends.
    """

    similarity: float = 0.5
    temperature: float = 0.03
    steps: int = 5

    def __post_init__(self) -> None:
        """Raise ValueError for a similarity outside [-1, 1], a temperature that is not > 0, or negative steps."""
        if not -1 <= self.similarity <= 1:
            raise ValueError(f"similarity={self.similarity} is outside [-1, 1]: it is a cosine")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be > 0: cosines are divided by it")
        if self.steps < 0:
            raise ValueError(f"steps={self.steps} must be >= 0: so often norms flow")

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """See the class; a token without edges to others keeps its own norm."""
        states = visual(evidence)
        unit, real = normalize(states, dim=-1), evidence.vision_mask
        cosine = unit @ unit.mT
        edges = (cosine >= self.similarity) & (cosine.abs() >= _LEAST * self.temperature)
        edges &= real[:, None] & real[:, :, None]
        edges |= torch.eye(cosine.shape[-1], dtype=torch.bool, device=cosine.device)
        weights = (cosine / self.temperature).masked_fill(~edges, -torch.inf).softmax(-1)
        flow = states.norm(dim=-1)[:, None]
        for _ in range(self.steps):
            flow = flow @ weights
        scores: Tensor = flow[:, 0] / edges.sum(-1)
        return scores
