"""`Budget.fit` against its own definition, taken literally, and its promises on random problems."""

import numpy as np
from budget_problems import bound_of, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune_lab.schedule.allocation import entered


def token_by_token(problem, bound):
    """The definition: sort all tokens by the scale at which they enter; take the longest prefix."""
    weights, full = problem.weights()
    n = problem.opened
    queue = sorted((j / (w * n), layer) for layer, w in enumerate(weights) if w for j in range(1, n + 1))
    tokens = np.where(full, n, 0)
    for _, layer in queue:
        tokens[layer] += 1
        if problem.spent(tokens) > bound:
            tokens[layer] -= 1
            break
    return tokens


@given(problems(most_vision=60, limits=st.none()))
def test_fit_is_the_longest_prefix_in_the_order_of_entry(problem):
    expected = token_by_token(problem, bound_of(problem.budget()))
    assert problem.fit().tolist() == expected.tolist()


@given(problems())
def test_never_over_never_rising_and_full_where_it_must_be(problem):
    tokens = problem.fit()
    assert problem.spent(tokens) <= bound_of(problem.budget())
    assert ((tokens >= 0) & (tokens <= problem.opened)).all()
    assert (np.diff(tokens) <= 0).all()
    assert (tokens[: problem.free_from] == problem.opened).all()
    assert (tokens[np.isinf(problem.shape)] == problem.opened).all()


@given(problems())
def test_wastes_less_than_one_token_of_one_layer_or_stair(problem):
    tokens, (weights, _) = problem.fit(), problem.weights()
    stairs = np.arange(len(tokens)) if problem.max_cuts is None else tokens
    room = (stairs == stair for stair in set(stairs[(weights > 0) & (tokens < problem.opened)]))
    spent = [problem.spent(tokens + one_more) for one_more in room]
    assert not spent or max(spent) > bound_of(problem.budget())


@given(problems(limits=st.none()), st.floats(0, 1))
def test_a_larger_bound_never_takes_a_token_away(problem, more):
    assert (problem.fit(more) >= problem.fit()).all()


@settings(max_examples=20)
@given(st.integers(1, 12).flatmap(lambda n: st.lists(problems(n_layers=n), min_size=1, max_size=5)))
def test_a_batch_is_its_single_samples(batch):
    shapes, each = np.stack([p.shape for p in batch]), [p.geometry for p in batch]
    free_from = min(batch[0].free_from, *(max(p.free_from, 1) for p in batch))
    pairs = list(zip(shapes, each, strict=True))
    floors = [batch[0].budget().floor(shape, geometry, free_from) for shape, geometry in pairs]
    budget = batch[0].of(max(bound_of(batch[0].budget()), *floors))
    limit = batch[0].max_cuts
    singles = [budget.fit(shape, geometry, free_from, limit) for shape, geometry in pairs]
    np.testing.assert_array_equal(budget.fit_batch(shapes, each, free_from, limit), np.stack(singles))


@given(st.integers(1, 3000), st.floats(1e-290, 3000))
def test_a_token_enters_at_its_scale_and_not_one_float_earlier(n_vision, weight):
    j = np.arange(1, n_vision + 1)[:, None]
    weights, room, scale = np.full((n_vision, 1), weight), np.full((n_vision, 1), n_vision), j / weight
    np.testing.assert_array_equal(entered(scale, weights, room), j)
    np.testing.assert_array_equal(entered(np.nextafter(scale, 0), weights, room), j - 1)
