"""Trace: what really happened to each sample while a pruner was attached."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from autoprune_lab.schedule.flops import unpruned_flops
from autoprune_lab.schedule.geometry import Geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from autoprune_lab.trace.patches import Picture


class UnprunedWarning(UserWarning):
    """Nothing was pruned in a with-block, or not all visual tokens were."""


@dataclass(frozen=True, eq=False)
class SampleTrace:
    """One prefilled sample: its prompt alone, whatever followed it in the same call.

    `complexity` is in bits, None when the policy is not adaptive. `planned` and `counts` are the visual
    tokens entering each layer, as planned and as they are in the KV cache. `scoring_flops` is what evidence
    cost on top of `decoder_flops`; `vision_flops` is the sample's share of the vision tower, by visual tokens,
    0 where the features came from elsewhere. `kv_cache_bytes` is what the prefill leaves in the cache, padding
    not counted. `kept`, if asked for: per layer the ascending indices, within the sample, of its visual tokens.
    The answer is read off a prompt's last token, so that one counts as text even where it `ends_in_picture`.
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

    @property
    def flops_ratio(self) -> float:
        """Pruned / unpruned prefill FLOPs of the decoder, text included, scoring not; in (0, 1]."""
        return self.decoder_flops / unpruned_flops(self.geometry)


@dataclass(frozen=True, eq=False)
class Trace:
    """Samples in the order they were prefilled, over all calls; beam search prefills each once per beam.

    `late_vision`: how many visual tokens a call kept whole, in no sample's counts, because they came after a prompt:
    on a cache that already held one, or behind `n_prompt`. One entry for each such call.
    """

    samples: list[SampleTrace] = field(default_factory=list)
    late_vision: list[int] = field(default_factory=list)

    def plot(
        self,
        images: "Picture | Sequence[Picture]",
        sample: int = 0,
        layers: Sequence[int] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> "Figure":
        """Draw which patches of `samples[sample]` enter which layers: kept ones bright, dropped ones dark.

        `images` are the sample's pictures as the model sees them (cropped, where its processor crops), each a
        PIL image or an array (height, width[, 3]). One column a layer; by default the first layer and those
        where tokens fall, at most five of them. `grid` is the (rows, columns) of patches of one image; by
        default a square. Needs `attach(model, keep_indices=True)`; ValueError without, or for another grid.
        """
        from autoprune_lab.trace.patches import plot_patches  # here: tracing needs no matplotlib

        return plot_patches(self.samples[sample], images, layers, grid)
