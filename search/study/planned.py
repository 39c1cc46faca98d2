"""What a pruner will cost, by arithmetic on its plan: known before the model runs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.flops import total_flops, unpruned_flops
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.plan import Plan
from search.config.schema import BudgetSettings

Bits = Float[np.ndarray, "samples"]


class _Measured(Protocol):
    @property
    def flops_ratio(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Planned:
    """The plan of every sample, and three ratios to the unpruned model, each summed over the samples."""

    plan: Plan
    flops_ratio: float
    kv_ratio: float
    kept: float
    geometries: Sequence[Geometry]

    @property
    def mean_tokens(self) -> float:
        """Visual tokens entering a layer, mean over layers and samples."""
        return float(self.plan.tokens.mean())

    @property
    def attributes(self) -> dict[str, float]:
        """What a trial is told of its plan, also if it never runs."""
        return {"planned_ratio": self.flops_ratio, "mean_tokens": self.mean_tokens, "kv_ratio": self.kv_ratio}

    @property
    def kept_by_layer(self) -> dict[str, list[float]]:
        """The fraction of its visual tokens that enters each layer: the samples' mean, least and most.

        Samples without visual tokens do not count; empty where none has any.
        """
        n_vision = np.array([geometry.n_vision for geometry in self.geometries])
        sighted = n_vision > 0
        if not sighted.any():
            return {}
        kept = self.plan.tokens[sighted] / n_vision[sighted, None]
        found = {"mean": kept.mean(0), "least": kept.min(0), "most": kept.max(0)}
        return {name: values.round(4).tolist() for name, values in found.items()}

    def over(self, bound: BudgetSettings) -> float:
        """How far over the bound, in the bound's own unit; <= 0 within it."""
        pairs = ((self.flops_ratio, bound.flops_ratio), (self.mean_tokens, bound.mean_tokens))
        overs = [value - most for value, most in pairs if most is not None]
        return max(overs, default=self.flops_ratio - 1.0)

    def cost(self, name: str, outcome: _Measured) -> float:
        """A cost of `search.config.goal.COSTS` that needs no clock."""
        return {"flops_ratio": outcome.flops_ratio, "kv_bytes": self.kv_ratio, "mean_tokens": self.kept}[name]

    def key(self, pruner: Pruner) -> str:
        """Equal for pruners that keep the same tokens of every sample in every layer."""
        node = plain(pruner)
        names = ("scorer", "recovery", "probe_layer", "positions")
        mark = hashlib.sha256(json.dumps([node[name] for name in names]).encode())
        mark.update(opening_of(pruner, self.geometries).encode())
        for counts in self.plan:
            mark.update(counts.tobytes())
        return mark.hexdigest()


def planned(pruner: Pruner, bits: Bits, geometries: Sequence[Geometry]) -> Planned:
    """Plan every sample. Raises BudgetError where the budget cannot be met, ValueError for a shape that is none."""
    plan = pruner.plan(bits, geometries)
    tokens = plan.tokens
    spent = total_flops(geometries, tokens)
    text = sum(geometry.n_text * geometry.n_layers for geometry in geometries)
    vision = sum(geometry.n_vision * geometry.n_layers for geometry in geometries)
    held = int(tokens.sum())
    whole = sum(unpruned_flops(geometry) for geometry in geometries)
    return Planned(plan, spent / whole, (held + text) / (vision + text), held / max(vision, 1), geometries)


def opening_of(pruner: Pruner, geometries: Sequence[Geometry]) -> str:
    """All that decides which tokens reach the probe, where an opening drops any before it; empty where none does.

    So complexities depend on it, beside estimator and probe layer.
    """
    n_vision = np.array([geometry.n_vision for geometry in geometries])
    opening = pruner.opens(n_vision)
    if opening is None or (opening.tokens == n_vision).all():
        return ""
    node = plain(pruner)
    chooser = node["opening_scorer"] or node["scorer"]
    return json.dumps([opening.layer, opening.tokens.tolist(), chooser, node["recovery"], node["positions"]])
