"""Numbers of the config that are out of their range, each by its key and bound; the least and the most are within."""

import math
from dataclasses import replace

import pytest

from search.config import ranges
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.goal import COSTS, Goal


@pytest.fixture(scope="module")
def typed():
    return compose().typed


def changed(typed, key, value):
    part, _, field = key.rpartition(".")
    inner = replace(getattr(typed, part), **{field: value}) if part else value
    return replace(typed, **{part or field: inner})


COUNTS = ["search.n_trials", "search.blocks", "search.workers", "search.heartbeat", "batch_size", "report.points"]
AT_THE_END = [
    *((key, 1) for key in COUNTS),
    *(("budget.flops_ratio", value) for value in (1e-9, 1.0, None)),
    *(("budget.mean_tokens", value) for value in (1e-9, 1e9, None)),
    *(("features_gib", value) for value in (0.0, None)),
    ("prefix_gib", 0.0),
    ("report.ratios", [1.0, 1e-9]),
    ("report.ratios", []),
    *(("search.cost", cost) for cost in COSTS),
    *(("search.mode", mode) for mode in ("front", "best")),
    *(("search.limits", limits) for limits in (None, {"kv_bytes": -1.0}, {"kv_bytes": math.inf})),
]


@pytest.mark.parametrize(("key", "value"), AT_THE_END)
def test_what_is_just_in_range_is_taken(typed, key, value):
    ranges.check(changed(typed, key, value))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        *((key, 0, f"^{key}=0 must be at least 1") for key in COUNTS),
        *(("budget.flops_ratio", value, r"is outside \(0, 1\]") for value in (0.0, 1.001, math.nan)),
        *(("budget.mean_tokens", value, "finite number above 0") for value in (0.0, math.inf, math.nan)),
        *(("features_gib", value, "finite number of at least 0") for value in (-0.1, math.inf, math.nan)),
        *(("prefix_gib", value, "finite number of at least 0") for value in (-0.1, math.inf, math.nan)),
        ("report.ratios", [0.5, 0.0], r"report.ratios: 0.0 is outside \(0, 1\]"),
        ("report.ratios", [0.5, 1.1], r"report.ratios: 1.1 is outside \(0, 1\]"),
        ("search.mode", "bset", "search.mode=bset is unknown; did you mean best.*front, best"),
        ("search.cost", "tokens", "search.cost=tokens is unknown.*flops_ratio, kv_bytes, mean_tokens, latency"),
        ("search.limits", {"a": 1.0, "b": math.nan}, "search.limits.b=nan must be a number"),
    ],
)
def test_what_is_out_of_range_is_named(typed, key, value, said):
    with pytest.raises(ConfigError, match=said):
        ranges.check(changed(typed, key, value))


def test_a_goal_says_what_a_trial_returns():
    front, best = Goal(cost="latency"), Goal("best")
    assert (front.directions, front.names, front.values(0.3, 0.8)) == (
        ["minimize", "maximize"],
        ["latency", "score"],
        (0.3, 0.8),
    )
    assert (best.directions, best.names, best.values(0.3, 0.8)) == (["maximize"], ["score"], (0.8,))
    limited = Experiment.compose(["search.mode=best", "search.cost=kv_bytes", "search.limits={latency: 1}"])
    assert limited.goal == Goal("best", "kv_bytes", {"latency": 1.0})
    assert Experiment.compose().goal == Goal("front", "flops_ratio", {})
