"""One searched field: its ends, its grid, what may be suggested for it, and what a config may not say of it."""

from types import SimpleNamespace

import optuna
import pytest

from search.config.dimension import Dimension, entries, is_number, read_dimension
from search.config.errors import ConfigError

LAYER = Dimension("layer", "int", 2, 8)
EVEN = Dimension("layer", "int", 2, 8, step=2)
KEEP = Dimension("keep", "float", 0.1, 0.9)
TENTHS = Dimension("keep", "float", 0.1, 0.4, step=0.1)
SLOPE = Dimension("k0", "float", 0.01, 1.0, log=True)
WORD = Dimension("mode", "categorical", choices=("a", 1, None))


@pytest.mark.parametrize(
    ("dimension", "points", "expected"),
    [
        (LAYER, 3, [2, 5, 8]),
        (LAYER, 99, [2, 3, 4, 5, 6, 7, 8]),
        (EVEN, 2, [2, 4, 6, 8]),
        (KEEP, 3, [0.1, 0.5, 0.9]),
        (TENTHS, 2, [0.1, 0.2, 0.3, 0.4]),
        (SLOPE, 3, [0.01, 0.1, 1.0]),
        (WORD, 1, ["a", 1, None]),
    ],
)
def test_a_grid_goes_from_end_to_end(dimension, points, expected):
    found = dimension.grid(points)
    assert found == (expected if dimension is WORD else pytest.approx(expected))
    assert [type(value) for value in found] == [type(value) for value in expected]
    assert dimension.ends() == (found[0], found[-1])


def test_a_name_tells_the_fields_of_two_options_apart():
    assert Dimension("a.b", "int", 0, 1).name == "a.b"
    assert Dimension("a.b", "int", 0, 1, owner="policy=fixed").name == "policy=fixed/a.b"


@pytest.mark.parametrize(
    ("dimension", "asked"),
    [
        (LAYER, ("suggest_int", "layer", 2, 8, {"log": False, "step": 1})),
        (EVEN, ("suggest_int", "layer", 2, 8, {"log": False, "step": 2})),
        (SLOPE, ("suggest_float", "k0", 0.01, 1.0, {"log": True, "step": None})),
        (TENTHS, ("suggest_float", "keep", 0.1, 0.4, {"log": False, "step": 0.1})),
        (WORD, ("suggest_categorical", "mode", ("a", 1, None), {})),
    ],
)
def test_the_sampler_is_asked_for_what_the_field_may_be(dimension, asked):
    said = []
    names = ("suggest_int", "suggest_float", "suggest_categorical")
    trial = SimpleNamespace(**{n: lambda *a, _n=n, **k: said.append((_n, *a, k)) or "drawn" for n in names})
    assert dimension.suggest(trial) == "drawn"
    assert said == [asked]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    drawn = [dimension.suggest(study.ask()) for _ in range(20)]
    for value in drawn:
        dimension.check(value, "drawn")  # what is suggested is never refused
    assert len(set(drawn)) > 2


@pytest.mark.parametrize(
    ("dimension", "value", "said"),
    [
        (LAYER, 1, r"layer=1 is outside its search space \[2, 8\]"),
        (LAYER, 9, r"layer=9 is outside its search space \[2, 8\]"),
        (LAYER, 3.0, "layer=3.0 is not of type int"),
        (KEEP, True, "keep=True is not of type float"),
        (KEEP, None, "keep=None is not of type float"),
        (KEEP, "0.5", "keep='0.5' is not of type float"),
        (EVEN, 5, "layer=5 is no step of 2 from 2"),
        (TENTHS, 0.25, "keep=0.25 is no step of 0.1 from 0.1"),
        (WORD, "b", "mode='b' is not among"),
        (WORD, 1.0, "mode=1.0 is not among"),
    ],
)
def test_what_the_sampler_could_not_suggest_is_refused(dimension, value, said):
    with pytest.raises(ConfigError, match=f"^owner: {said}"):
        dimension.check(value, "owner")


@pytest.mark.parametrize(
    ("dimension", "value"),
    [(LAYER, 2), (LAYER, 8), (KEEP, 0.1), (KEEP, 0.9), (EVEN, 8), (TENTHS, 0.3), (SLOPE, 1), (WORD, None), (WORD, 1)],
)
def test_both_ends_and_every_step_are_within(dimension, value):
    dimension.check(value, "owner")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "int", "low": 3, "high": 2}, "low=3 is above high=2"),
        ({"type": "int", "low": 0.5, "high": 2}, "low=0.5 must be a whole number"),
        ({"type": "int", "low": 0, "high": 2.5}, "high=2.5 must be a whole number"),
        ({"type": "float", "low": 0, "high": float("inf")}, "high=inf must be a number"),
        ({"type": "float", "low": True, "high": 2}, "low=True must be a number"),
        ({"type": "float", "low": 0}, "high=None must be a number"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "log=True needs low > 0"),
        ({"type": "float", "low": 1, "high": 2, "log": True, "step": 1}, "log=True needs low > 0 and no step"),
        ({"type": "float", "low": 1, "high": 2, "log": 1}, "log=1 needs"),
        ({"type": "int", "low": 0, "high": 4, "step": 1.5}, "step=1.5 must be a whole number above 0"),
        ({"type": "float", "low": 0, "high": 4, "step": 0}, "step=0 must be a number above 0"),
        ({"type": "float", "low": 0, "high": 4, "step": -1}, "step=-1 must be a number above 0"),
        ({"type": "float", "low": 0, "high": 1, "step": True}, "step=True must be a number above 0"),
        ({"type": "float", "low": 0, "high": 1, "step": 0.3}, "step=0.3 does not lead from low=0 to high=1"),
        ({"type": "float", "low": 0, "high": 1, "choices": [1]}, "choices belong to type categorical"),
        ({"type": "categorical"}, "at least one"),
        ({"type": "categorical", "choices": 3}, "at least one"),
        ({"type": "categorical", "choices": [1, [2]]}, "choices must be a list of numbers, words or truth values"),
        ({"type": "categorical", "choices": [1], "low": 0}, "choices only"),
        ({"type": "categorical", "choices": [1], "high": 0}, "choices only"),
        ({"type": "categorical", "choices": [1], "log": True}, "choices only"),
        ({"type": "categorical", "choices": [1], "step": 1}, "choices only"),
        ({"type": "in", "low": 0, "high": 1}, "type 'in' is unknown; did you mean int"),
        ({"type": "int", "low": 0, "hgih": 1}, "unknown key 'hgih'; did you mean high"),
        ({"type": "int", "low": 0, "high": 1, "owner": "x"}, "unknown key 'owner'"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_path(fields, said):
    with pytest.raises(ConfigError, match=f"^space.a.b: .*{said}"):
        read_dimension("a.b", fields)


def test_a_range_of_one_value_is_one():
    only = read_dimension("a", {"type": "float", "low": 0.5, "high": 0.5, "step": 0.1}, "policy=x")
    assert only == Dimension("a", "float", 0.5, 0.5, step=0.1, owner="policy=x")
    assert only.grid(5) == [0.5]


def test_the_entries_of_a_space_are_found_at_any_depth():
    leaf, other = {"type": "int", "low": 0, "high": 1}, {"type": "categorical", "choices": ["x"]}
    found = dict(entries({"a": {"b.c": leaf, "type": {"type": "float"}}, "d": other, "e": {}}))
    assert found == {"a.b.c": leaf, "a.type": {"type": "float"}, "d": other}
    with pytest.raises(ConfigError, match=r"space\.a\.b=3 must be a mapping"):
        list(entries({"a": {"b": 3, "c": leaf}}))
    with pytest.raises(ConfigError, match=r"space\.a\.b has no type: add one of float, int, categorical, group"):
        list(entries({"a": {"b": {"low": 0}}}))


def test_truth_values_are_no_numbers():
    assert [is_number(value) for value in (1, 0.5, True, "1", None)] == [True, True, False, False, False]
