"""What really happened to one sample."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from autoprune_lab.evidence.history import History
from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.schedule.geometry import Geometry


@dataclass(frozen=True, eq=False)
class SampleTrace:
    """One prefilled sample: its prompt alone, whatever followed it in the same call.

    `complexity` is in bits, None when the policy is not adaptive. `planned` and `counts` are the visual
    tokens entering each layer, as planned and as they are in the KV cache. `scoring_flops` is what evidence
    cost on top of `decoder_flops`; `vision_flops` is the sample's share of the vision tower, by visual tokens,
    0 where the features came from elsewhere. `kv_cache_bytes` is what the prefill leaves in the cache, padding
    not counted. `kept`, if asked for: per layer the ascending indices, within the sample, of its visual tokens.
    `attention_from`: where evidence of a layer was asked for attention, the layer whose attention it was: that one, or
    in decoders that mix in linear attention, convolution or state spaces the nearest one below that has attention.
    The answer is read off a prompt's last token, so that one counts as text even where it `ends_in_picture`.
    `history`: where an episode's was given and is read, what its next decision is to be given: this one in front. It is
    written when the block ends.
    """

    geometry: Geometry
    planned: Int[np.ndarray, "layers"]
    counts: Int[np.ndarray, "layers"]
    decoder_flops: int
    scoring_flops: int
    vision_flops: int = 0
    kv_cache_bytes: int = 0
    complexity: float | None = None
    kept: list[Int[np.ndarray, "_"]] | None = None
    ends_in_picture: bool = False
    attention_from: dict[int, int] = field(default_factory=dict)
    history: History = ()

    @classmethod
    def unpruned(cls, geometry: Geometry) -> "SampleTrace":
        """Of a sample that no pruner has touched."""
        everything = np.full(geometry.n_layers, geometry.n_vision)
        return cls(geometry, everything, everything, unpruned_flops(geometry), 0)

    @property
    def flops_ratio(self) -> float:
        """Pruned / unpruned prefill FLOPs of the decoder, text included, scoring not; in (0, 1]."""
        return self.decoder_flops / unpruned_flops(self.geometry)
