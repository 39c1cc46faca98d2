"""`Budget.fit` against its own definition, taken literally, and its promises on random problems."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune_lab.budget import Budget, BudgetError
from autoprune_lab.curve import FULL, logistic, staircase
from autoprune_lab.flops import flops_ratio, mean_tokens_entering
from autoprune_lab.geometry import Geometry

LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)

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


@settings(deadline=None)
@given(problems(most_vision=60))
def test_fit_is_the_longest_prefix_in_the_order_of_entry(problem):
    expected = token_by_token(problem, bound_of(problem.budget()))
    assert problem.fit().tolist() == expected.tolist()


@settings(deadline=None)
@given(problems())
def test_never_over_never_rising_and_full_where_it_must_be(problem):
    tokens, n_vision = problem.fit(), problem.geometry.n_vision
    assert problem.spent(tokens) <= bound_of(problem.budget())
    assert ((tokens >= 0) & (tokens <= n_vision)).all()
    assert (np.diff(tokens) <= 0).all()
    assert (tokens[: problem.free_from] == n_vision).all()
    assert (tokens[np.isinf(problem.shape)] == n_vision).all()


@settings(deadline=None)
@given(problems())
def test_wastes_less_than_one_token_of_one_layer(problem):
    tokens, (weights, _) = problem.fit(), problem.weights()
    room = np.flatnonzero((weights > 0) & (tokens < problem.geometry.n_vision))
    one_more = tokens + np.isin(
        np.arange(len(tokens)), room[:1]
    )  # in the layer with room where it costs most
    assert room.size == 0 or problem.spent(one_more) > bound_of(problem.budget())


@settings(deadline=None)
@given(problems(), st.floats(0, 1))
def test_a_larger_bound_never_takes_a_token_away(problem, more):
    assert (problem.fit(more) >= problem.fit()).all()


@settings(deadline=None)
@given(st.integers(1, 12).flatmap(lambda n: st.lists(problems(n_layers=n), min_size=1, max_size=5)))
def test_a_batch_is_its_single_samples(batch):
    shapes, each = np.stack([p.shape for p in batch]), [p.geometry for p in batch]
    free_from = min(p.free_from for p in batch)
    pairs = list(zip(shapes, each, strict=True))
    floors = [batch[0].budget().floor(shape, geometry, free_from) for shape, geometry in pairs]
    budget = batch[0].of(max(bound_of(batch[0].budget()), *floors))
    singles = [budget.fit(shape, geometry, free_from) for shape, geometry in pairs]
    np.testing.assert_array_equal(budget.fit_batch(shapes, each, free_from), np.stack(singles))


def test_one_unreachable_sample_refuses_the_batch():
    shapes = np.stack([logistic(32, 0.4, 14.9), staircase(32, [20], [0.5])])
    with pytest.raises(BudgetError, match="20 FULL"):
        Budget(flops_ratio=0.4).fit_batch(shapes, [LLAVA, LLAVA], 2)


def test_equal_weights_share_to_within_one_token_and_the_lower_layers_come_first():
    tokens = Budget(mean_tokens=10.2).fit(
        np.full(10, 0.7), Geometry(10, 8, 8, 1, 1, 8, n_vision=576, n_text=0), 0
    )
    assert tokens.tolist() == [11, 11] + [10] * 8


def test_only_the_proportions_of_a_shape_matter():
    shape = logistic(32, 0.3, 14.9)
    tokens = Budget(mean_tokens=64).fit(shape, LLAVA, 2)
    np.testing.assert_array_equal(Budget(mean_tokens=64).fit(shape / 8, LLAVA, 2), tokens)


def test_the_whole_budget_keeps_everything():
    assert (Budget(flops_ratio=1.0).fit(logistic(32, 0.4, 14.9), LLAVA, 2) == 576).all()


def test_the_floor_is_reached_exactly_and_nothing_below_it():
    shape = staircase(32, [4], [0.5])
    least = Budget(flops_ratio=0.5).floor(shape, LLAVA, 2)
    assert least == flops_ratio(LLAVA, np.array([576] * 4 + [0] * 28))
    assert Budget(flops_ratio=least).fit(shape, LLAVA, 2).tolist() == [576] * 4 + [0] * 28
    with pytest.raises(BudgetError):
        Budget(flops_ratio=math.nextafter(least, 0)).fit(shape, LLAVA, 2)


def test_an_unreachable_bound_names_bound_floor_and_reason():
    message = r"flops_ratio=0.1 is unreachable: 64 text.*first 2 by free_from, 3 FULL.*cost 0.1\d+; raise"
    with pytest.raises(BudgetError, match=message):
        Budget(flops_ratio=0.1).fit(staircase(32, [3], [0.5]), LLAVA, 2)


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"flops_ratio": 0.5, "mean_tokens": 64.0},
        {"flops_ratio": 0.0},
        {"flops_ratio": 1.1},
        {"mean_tokens": 0.0},
        {"flops_ratio": math.nan},
        {"mean_tokens": math.inf},
    ],
)
def test_a_budget_is_one_bound_in_range(bounds):
    with pytest.raises(ValueError, match=r"flops_ratio|mean_tokens"):
        Budget(**bounds)


@pytest.mark.parametrize(
    ("shape", "free_from", "message"),
    [
        (np.linspace(0, 1, 32), 2, "rise"),
        (np.full(32, math.nan), 2, "NaN"),
        (np.full(32, -1.0), 2, "negative"),
        (np.ones(31), 2, "layers"),
        (np.ones(32), -1, "free_from=-1"),
    ],
)
def test_what_is_no_shape_is_refused(shape, free_from, message):
    with pytest.raises(ValueError, match=message):
        Budget(flops_ratio=0.5).fit(shape, LLAVA, free_from)
