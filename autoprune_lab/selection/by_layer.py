"""By layer: one scorer for the cuts up to a depth, another one behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence, Scorer, TowerLayer, tower_layers_of
from autoprune_lab.selection.scorers import random, text_attention


@dataclass(frozen=True)
class ByLayer:
    """Let another scorer choose from each layer of `starts` on: of `scorers`, one each.

    A start is the layer that the tokens enter: a whole number from 0, or a fraction of the decoder's depth in [0, 1],
    which is layer round(fraction * n_layers); 1 is the second layer, 1.0 the depth, where no layer is. The first start
    must be 0. Where starts fall together the last of them counts. ValueError in a decoder where they are not in
    order, and for a fraction where the number of layers is not known.

    Source: arXiv 2512.07580 (Information Horizon), beyond which random tokens are as good as chosen ones; its code has
    it at layer 20 of 32.
    """

    starts: Sequence[int | float] = (0, 0.625)
    scorers: Sequence[Scorer] = (text_attention, random)

    def __post_init__(self) -> None:
        """Take any sequence; raise ValueError for unequal lengths, a first start above 0, one out of range or order."""
        object.__setattr__(self, "starts", tuple(self.starts))
        object.__setattr__(self, "scorers", tuple(self.scorers))
        if len(self.starts) != len(self.scorers) or not self.scorers:
            raise ValueError(f"starts={self.starts}: give one for each of the {len(self.scorers)} scorers, and some")
        if self.starts[0] != 0 or not all(_in_range(start) for start in self.starts):
            raise ValueError(f"starts={self.starts} must begin with 0, then layers >= 0 or fractions in [0, 1]")
        for kind in (int, float):
            alike = [start for start in self.starts if isinstance(start, kind)]
            if alike != sorted(alike):
                raise ValueError(f"starts={self.starts} must be in order")

    @property
    def tower_layers(self) -> tuple[TowerLayer, ...]:
        """Layers of the vision tower that any of the scorers names."""
        return tuple(layer for scorer in self.scorers for layer in tower_layers_of(scorer))

    def __call__(self, evidence: Evidence) -> Float[Tensor, "batch vision"]:
        """The scores of the scorer whose turn it is at the layer that cuts."""
        layers = [_layer(start, evidence.n_layers) for start in self.starts]
        if layers != sorted(layers):
            raise ValueError(f"starts={self.starts} are the layers {layers} here, which must be in order")
        chosen = max(i for i, layer in enumerate(layers) if layer <= evidence.layer + 1)
        return self.scorers[chosen](evidence)


def _in_range(start: int | float) -> bool:
    return start >= 0 and (isinstance(start, int) or start <= 1)


def _layer(start: int | float, n_layers: int | None) -> int:
    """The layer that a start means."""
    if isinstance(start, int):
        return start
    if n_layers is None:
        raise ValueError(f"starts: {start} is a fraction of a depth that the evidence does not know: give whole layers")
    return round(start * n_layers)
