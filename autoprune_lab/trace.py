"""Trace: what really happened to each sample while a pruner was attached."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from autoprune_lab.flops import unpruned_flops
from autoprune_lab.geometry import Geometry


@dataclass(frozen=True, eq=False)
class SampleTrace:
    """One prefilled sample.

    `complexity` is in bits, None when the policy is not adaptive. `planned` and `counts` are the visual
    tokens entering each layer, as planned and as they are in the KV cache. `scoring_flops` is what evidence
    cost on top of `decoder_flops`. `kept`, if asked for: per layer the ascending indices, within the sample,
    of its visual tokens.
    """

    geometry: Geometry
    planned: Int[np.ndarray, "layers"]
    counts: Int[np.ndarray, "layers"]
    decoder_flops: int
    scoring_flops: int
    complexity: float | None = None
    kept: list[Int[np.ndarray, "_"]] | None = None

    @property
    def flops_ratio(self) -> float:
        """Pruned / unpruned prefill FLOPs of the decoder, text included, scoring not; in (0, 1]."""
        return self.decoder_flops / unpruned_flops(self.geometry)


@dataclass(frozen=True, eq=False)
class Trace:
    """Samples in the order they were prefilled, over all calls; beam search prefills each once per beam."""

    samples: list[SampleTrace] = field(default_factory=list)
