"""One cut: every visual token up to a layer, one fraction of them from there on."""

from dataclasses import dataclass

from autoprune_lab import Policy, Shape, Signal, staircase


@dataclass(frozen=True)
class FixedPolicy(Policy):
    """All visual tokens enter the layers before `layer`; the fraction `keep` enters that one and all later.

    `layer` >= 0 counts from 0; `keep` is in [0, 1]. Under a budget only keep > 0 or not matters.

    Source: arXiv 2403.06764 (FastV), K = 2 and R = 50 %.
    Differs: FastV drops the ratio R, here `keep` = 1 - R stays.
    """

    layer: int = 2
    keep: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError for a negative layer or a fraction outside [0, 1]."""
        if self.layer < 0:
            raise ValueError(f"layer={self.layer} must be >= 0")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep={self.keep} is outside [0, 1]: give the kept fraction")

    def shape(self, signal: Signal) -> Shape:
        """FULL before `layer`, flat from there on."""
        return staircase(signal.n_layers, [self.layer], [self.keep])
