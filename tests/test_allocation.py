"""`Budget.fit` against its own definition, taken literally, and its promises on random problems."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune_lab.allocation import entered
from autoprune_lab.budget import Budget
from autoprune_lab.curve import FULL
from autoprune_lab.flops import flops_ratio, mean_tokens_entering
from autoprune_lab.geometry import Geometry

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

    def budget(self, more=0.0):
        whole = 1.0 if self.unit == "flops_ratio" else float(self.geometry.n_vision)
        least = self.of(whole).floor(self.shape, self.geometry, self.free_from)
        bound = least + max(self.way, more) * (whole - least)
        return self.of(min(max(bound, 1e-9), whole))

    def of(self, bound):
        return Budget(**{self.unit: bound})

    def fit(self, more=0.0):
        return self.budget(more).fit(self.shape, self.geometry, self.free_from)

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


def problems(n_layers=None, most_vision=2880):
    layers = st.integers(1, 40) if n_layers is None else st.just(n_layers)
    return layers.flatmap(
        lambda n: st.builds(
            Problem,
            shape=st.lists(WEIGHTS, min_size=n, max_size=n).map(lambda w: np.sort(np.array(w))[::-1].copy()),
            geometry=geometries(n, most_vision),
            free_from=st.integers(0, min(3, n)),
            unit=st.sampled_from(["flops_ratio", "mean_tokens"]),
            way=st.floats(0, 1),
        )
    )


def bound_of(budget):
    return budget.mean_tokens if budget.flops_ratio is None else budget.flops_ratio


def token_by_token(problem, bound):
    """The definition: sort all tokens by the scale at which they enter; take the longest prefix."""
    weights, full = problem.weights()
    n = problem.geometry.n_vision
    queue = sorted((j / (w * n), layer) for layer, w in enumerate(weights) if w for j in range(1, n + 1))
    tokens = np.where(full, n, 0)
    for _, layer in queue:
        tokens[layer] += 1
        if problem.spent(tokens) > bound:
            tokens[layer] -= 1
            break
    return tokens


@given(problems(most_vision=60))
def test_fit_is_the_longest_prefix_in_the_order_of_entry(problem):
    expected = token_by_token(problem, bound_of(problem.budget()))
    assert problem.fit().tolist() == expected.tolist()


@given(problems())
def test_never_over_never_rising_and_full_where_it_must_be(problem):
    tokens, n_vision = problem.fit(), problem.geometry.n_vision
    assert problem.spent(tokens) <= bound_of(problem.budget())
    assert ((tokens >= 0) & (tokens <= n_vision)).all()
    assert (np.diff(tokens) <= 0).all()
    assert (tokens[: problem.free_from] == n_vision).all()
    assert (tokens[np.isinf(problem.shape)] == n_vision).all()


@given(problems())
def test_wastes_less_than_one_token_of_one_layer(problem):
    tokens, (weights, _) = problem.fit(), problem.weights()
    room = np.flatnonzero((weights > 0) & (tokens < problem.geometry.n_vision))
    one_more = tokens + np.isin(np.arange(len(tokens)), room[:1])  # in the layer with room where it costs most
    assert room.size == 0 or problem.spent(one_more) > bound_of(problem.budget())


@given(problems(), st.floats(0, 1))
def test_a_larger_bound_never_takes_a_token_away(problem, more):
    assert (problem.fit(more) >= problem.fit()).all()


@settings(max_examples=20)
@given(st.integers(1, 12).flatmap(lambda n: st.lists(problems(n_layers=n), min_size=1, max_size=5)))
def test_a_batch_is_its_single_samples(batch):
    shapes, each = np.stack([p.shape for p in batch]), [p.geometry for p in batch]
    free_from = min(p.free_from for p in batch)
    pairs = list(zip(shapes, each, strict=True))
    floors = [batch[0].budget().floor(shape, geometry, free_from) for shape, geometry in pairs]
    budget = batch[0].of(max(bound_of(batch[0].budget()), *floors))
    singles = [budget.fit(shape, geometry, free_from) for shape, geometry in pairs]
    np.testing.assert_array_equal(budget.fit_batch(shapes, each, free_from), np.stack(singles))


@given(st.integers(1, 3000), st.floats(1e-290, 3000))
def test_a_token_enters_at_its_scale_and_not_one_float_earlier(n_vision, weight):
    j = np.arange(1, n_vision + 1)[:, None]
    weights, room, scale = np.full((n_vision, 1), weight), np.full((n_vision, 1), n_vision), j / weight
    np.testing.assert_array_equal(entered(scale, weights, room), j)
    np.testing.assert_array_equal(entered(np.nextafter(scale, 0), weights, room), j - 1)
