"""Needs: the cheapest curve along which each kind of sample is still answered, their mean and their envelope.

Adaptivity can pay only between the two: below the mean need something is lost by everybody, and a fixed curve as large
as the envelope answers all kinds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from autoprune_lab.statistics.replay import Curve, Replay

KEPT = 0.967
"""The share of the unpruned score that a kind keeps along the curve that it needs. Source: arXiv 2509.23931: 96.7 %."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Need:
    """What a kind needs. `curve` is the cheapest that keeps enough, `mean_tokens` its cost, `kept` what it keeps.

    `layers` and `tokens`: the fewest layers with any visual token, and the fewest tokens in the first layer that may be
    pruned, of all curves that keep enough. `met`: does any? Else the curve is the one that keeps most.
    """

    kind: str
    curve: Curve
    mean_tokens: float
    kept: float
    layers: int
    tokens: float
    met: bool = True


@dataclass(frozen=True)
class Needs:
    """The needs of all kinds; a fraction of 1 stands for `n_vision` tokens, the samples' mean."""

    kinds: tuple[Need, ...]
    n_vision: float
    share: float = KEPT

    @property
    def curves(self) -> Float[np.ndarray, "kinds layers"]:
        """Tokens entering each layer along each kind's curve."""
        return self.n_vision * np.array([need.curve for need in self.kinds])

    @property
    def mean(self) -> Float[np.ndarray, "layers"]:
        """Mean of the kinds' curves, in tokens."""
        return np.asarray(self.curves.mean(axis=0))

    @property
    def envelope(self) -> Float[np.ndarray, "layers"]:
        """The smallest curve above all of them, in tokens."""
        return np.asarray(self.curves.max(axis=0))

    @property
    def window(self) -> tuple[float, float]:
        """Cost of the mean need and of the envelope, in visual tokens entering a layer, mean over the layers."""
        return float(self.mean.mean()), float(self.envelope.mean())

    def budgets(self, n: int) -> list[float]:
        """`n` budgets in the window, evenly spaced from its lower end up, rounded up to three digits; equal ones once.

        Where mean need and envelope are one, as they are of one kind, that is the only budget.
        """
        low, high = self.window
        return list(dict.fromkeys(_rounded_up(low + (high - low) * i / n) for i in range(n)))


def needs(
    replay: Replay,
    unpruned: Float[np.ndarray, "samples"],
    kinds: Sequence[str],
    n_vision: float,
    free_from: int = 0,
    share: float = KEPT,
) -> Needs:
    """The need of each kind among the curves of `replay`, in the order in which kinds first appear.

    A curve keeps enough of a kind where its mean score is at least `share` of the mean `unpruned` one. `free_from`: the
    first layer that may be pruned. Of equally cheap curves the one that keeps most counts.
    """
    labels = np.asarray(kinds)
    found = [_need(kind, replay, unpruned, labels == kind, n_vision, free_from, share) for kind in dict.fromkeys(kinds)]
    return Needs(tuple(found), n_vision, share)


def _need(
    kind: str,
    replay: Replay,
    unpruned: Float[np.ndarray, "samples"],
    own: np.ndarray,
    n_vision: float,
    free_from: int,
    share: float,
) -> Need:
    scores, whole = replay.scores[own].mean(axis=0), float(unpruned[own].mean())
    kept = scores / whole if whole else np.ones_like(scores)
    costs = replay.mean_tokens[own].mean(axis=0)
    curves = np.array(replay.curves)
    enough = kept >= share - _ROUNDING
    met = bool(enough.any())
    if not met:
        enough = kept == kept.max()
    best = int(np.lexsort((-kept, np.where(enough, costs, np.inf)))[0])
    first = curves[enough][:, min(free_from, curves.shape[1] - 1)]
    layers, tokens = int((curves[enough] > 0).sum(axis=1).min()), float(n_vision * first.min())
    return Need(kind, replay.curves[best], float(costs[best]), float(kept[best]), layers, tokens, met)


def _rounded_up(value: float) -> float:
    """To three digits, never below."""
    unit = 10.0 ** (np.floor(np.log10(max(value, 1e-9))) - 2)
    return float(f"{np.ceil(value / unit - _ROUNDING) * unit:.3g}")
