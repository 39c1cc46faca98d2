"""Random problems for `Budget.fit`: shapes, geometries, bounds, limits on the cuts, openings."""

import math
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.curve import FULL
from autoprune_lab.schedule.flops import flops_ratio, mean_tokens_entering
from autoprune_lab.schedule.geometry import Geometry

LIMITS = st.none() | st.integers(1, 6)
OPENINGS = st.integers(1, 40) | st.integers(1, 2880) | st.floats(0.001, 0.999)
WEIGHTS = st.one_of(
    st.just(FULL),
    st.just(0.0),
    st.floats(0, 2),
    st.floats(0, 1e-300),
    st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.6, 1.0]),
)


def geometries(n_layers, most_vision=2880):
    return st.builds(
        Geometry,
        n_layers=st.just(n_layers),
        hidden=st.integers(1, 5000),
        intermediate=st.integers(1, 12000),
        n_heads=st.sampled_from([2, 4, 8]),
        n_kv_heads=st.sampled_from([1, 2]),
        head_dim=st.integers(1, 128),
        n_vision=st.integers(1, 40) | st.integers(1, most_vision),
        n_text=st.integers(0, 300),
    )


@dataclass(frozen=True)
class Problem:
    """A shape for a geometry, and a budget the fraction `way` of the way from its floor to keep-all."""

    shape: np.ndarray
    geometry: Geometry
    free_from: int
    unit: str
    way: float
    max_cuts: int | None = None
    opening: int | float | None = None

    @property
    def opened(self):
        """Visual tokens that enter the first layer."""
        if self.opening is None:
            return self.geometry.n_vision
        if isinstance(self.opening, int):
            return min(self.opening, self.geometry.n_vision)
        return max(1, math.floor(self.opening * self.geometry.n_vision + 1e-9))

    def budget(self, more=0.0):
        whole = 1.0 if self.unit == "flops_ratio" else float(self.geometry.n_vision)
        least = self.of(whole).floor(self.shape, self.geometry, self.free_from)
        bound = least + max(self.way, more) * (whole - least)
        return self.of(min(max(bound, 1e-9), whole))

    def of(self, bound):
        return Budget(**{self.unit: bound}, opening=self.opening)

    def fit(self, more=0.0):
        return self.budget(more).fit(self.shape, self.geometry, self.free_from, self.max_cuts)

    def limited(self, max_cuts):
        return replace(self, max_cuts=max_cuts)

    def spent(self, tokens):
        if self.unit == "mean_tokens":
            return mean_tokens_entering(tokens)
        return flops_ratio(self.geometry, tokens)

    def weights(self):
        """Weights relative to the largest, 0 where the layer is full anyway; and which layers are full."""
        full = np.isinf(self.shape) | (np.arange(len(self.shape)) < self.free_from)
        weights = np.where(full, 0.0, self.shape)
        weights = weights / (weights.max() or 1.0)
        return np.where(weights > 1e-290, weights, 0.0), full


def problems(n_layers=None, most_vision=2880, limits=LIMITS):
    """An opening needs a layer before the probe's next one, and a cut for itself."""
    layers = st.integers(1, 40) if n_layers is None else st.just(n_layers)

    def of(n, opening, least):
        return st.builds(
            Problem,
            shape=st.lists(WEIGHTS, min_size=n, max_size=n).map(lambda w: np.sort(np.array(w))[::-1].copy()),
            geometry=geometries(n, most_vision),
            free_from=st.integers(least, min(3, n)),
            unit=st.sampled_from(["flops_ratio", "mean_tokens"]),
            way=st.floats(0, 1),
            max_cuts=limits.map(lambda limit: limit if limit is None else limit + least),
            opening=opening,
        )

    return layers.flatmap(lambda n: of(n, st.none(), 0) | of(n, OPENINGS, 1))


def bound_of(budget):
    return budget.mean_tokens if budget.flops_ratio is None else budget.flops_ratio


def n_cuts(tokens, n_vision):
    """Layers at whose entrance tokens go."""
    return int((np.diff(tokens, prepend=n_vision) < 0).sum())
