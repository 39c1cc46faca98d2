"""What a study wants: the whole front or the best score, of which kind, at which cost, and within which limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FRONT, BEST = "front", "best"
MODES = (FRONT, BEST)
LATENCY = "latency"
COSTS = {
    "flops_ratio": "FLOPs ratio (pruned / unpruned prefill)",
    "kv_bytes": "KV-cache ratio (pruned / unpruned prompt)",
    "mean_tokens": "visual tokens entering a layer (kept fraction)",
    LATENCY: "latency ratio (pruned / unpruned answer)",
}
"""Every cost by name, with what it says on an axis; each is a ratio to the unpruned model, lower is better."""
OWN_SCORE, AGREEMENT, KL = "task", "agreement", "kl"
SCORES = {
    OWN_SCORE: "score",
    AGREEMENT: "agreement with the unpruned model's answers (%)",
    KL: "exp(-KL), along the unpruned model's answers",
    "cosine": "cosine to the unpruned model's last state",
}
"""Every score by name, with what it says on an axis; higher is better. The first is the task's own, the others read no
label."""
COST = "cost"
"""The attribute that holds a trial's cost, in every mode."""


@dataclass(frozen=True)
class Goal:
    """`front`: cost down, score up; `best`: score up, the cost is only reported. `limits`: upper bounds by figure.

    `score`: one of SCORES.
    """

    mode: str = FRONT
    cost: str = "flops_ratio"
    limits: Mapping[str, float] = field(default_factory=dict)
    score: str = OWN_SCORE

    @property
    def directions(self) -> "list[Literal['minimize', 'maximize']]":
        """Of the values of a trial, in their order."""
        return ["maximize"] if self.mode == BEST else ["minimize", "maximize"]

    @property
    def names(self) -> list[str]:
        """Of the values of a trial, in their order."""
        return ["score"] if self.mode == BEST else [self.cost, "score"]

    def values(self, cost: float, score: float) -> tuple[float, ...]:
        """What a trial returns."""
        return (score,) if self.mode == BEST else (cost, score)
