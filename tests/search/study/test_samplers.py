"""Every search of conf/search runs, keeps the bound, and goes on from where it was; on an evaluator without a model."""

import itertools

import optuna
import pytest
from fake_evaluator import FakeEvaluator, run, settings
from optuna.trial import TrialState

from search.config.catalogue import options_of
from search.config.errors import ConfigError
from search.study import samplers
from search.study.front import from_study
from search.study.preflight import check_study  # noqa: F401  (imports torch once, before anything is timed)

optuna.logging.set_verbosity(optuna.logging.ERROR)
FIXED = ("policy=fixed", "scorer=random")


def check(given):
    samplers.check(given)


def points(study):
    return [(t.params, t.values, t.state) for t in study.trials if t.state != TrialState.FAIL]


@pytest.mark.parametrize("mode", ["front", "best"])
@pytest.mark.parametrize("search", options_of("search"))
def test_every_search_finds_points_within_the_bound(tmp_path, search, mode):
    given = settings(tmp_path, *FIXED, f"search={search}", f"search.mode={mode}", "search.n_trials=10")
    check(given)
    study = run(given, FakeEvaluator())
    assert len(points(study)) == 10
    assert all(t.constraints for t in study.trials)
    assert from_study(study).costs
    assert max(from_study(study).costs) <= 0.5


@pytest.mark.parametrize("search", ["ehvi", "gp", "gradient", "nsga3", "qmc", "grid"])
def test_an_interrupted_search_goes_on_as_if_it_had_not_stopped(tmp_path, search):
    more = ["search.sampler.n_startup_trials=4"] if search == "gp" else []
    words = (*FIXED, f"search={search}", "search.n_trials=10", *more)
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "cut", *words), FakeEvaluator(stop_at=2))
    resumed, expected = points(run(settings(tmp_path / "cut", *words), FakeEvaluator())), points(whole)
    if search == "grid":  # the same points; optuna numbers them by the trial, so the order is another
        resumed, expected = sorted(resumed, key=str), sorted(expected, key=str)
    assert resumed == expected


def test_a_grid_is_every_combination_once(tmp_path):
    words = (
        *FIXED,
        "search=grid",
        "search.sampler.points=2",
        "search.baselines=[]",
        "space.pruner.policy.layer.high=4",
    )
    given = settings(tmp_path, *words, "search.n_trials=4")
    study = run(given, FakeEvaluator())
    assert sorted((t.params["pruner.policy.layer"], t.params["pruner.budget.flops_ratio"]) for t in study.trials) == [
        (layer, ratio) for layer, ratio in itertools.product((2, 4), (0.24, 0.5))
    ]
    with pytest.raises(ConfigError, match=r"search.n_trials=5 is more than the grid has: at most 4"):
        check(settings(tmp_path, *words, "search.n_trials=5"))


def test_a_sobol_sequence_is_one_sequence(tmp_path):
    given = settings(tmp_path, *FIXED, "search=qmc", "search.n_trials=17", "search.baselines=[]")
    ratios = sorted(t.params["pruner.budget.flops_ratio"] for t in run(given, FakeEvaluator()).trials[1:])
    gaps = [high - low for low, high in itertools.pairwise(ratios)]
    assert max(gaps) < 2.1 * 0.26 / 16  # sixteen points, one in every sixteenth


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search=grid", "space=policies", "search.n_trials=2"], ["search=grid", "group policy"]),
        (
            ["search=grid", "search.baselines=[{}]", "space.pruner.policy.layer.low=4"],
            ["search.baselines[0]", "pruner.policy.layer"],
        ),
        (["search.sampler.n_startup_trials=many"], ["search.sampler"]),
        (
            ["~search.sampler", "+search.sampler={_target_: optuna.samplers.CmaEsSampler}"],
            ["search.sampler", "multi-objective"],
        ),
        (
            ["~search.sampler", "+search.sampler={_target_: fractions.Fraction}"],
            ["search.sampler", "Fraction", "expected a sampler"],
        ),
        (
            ["search.mode=best", "~search.pruner", "+search.pruner={_target_: fractions.Fraction}"],
            ["search.pruner", "expected a pruner"],
        ),
        (["search.mode=best", "search.pruner.p_threshold=2"], ["search.pruner", "p_threshold"]),
    ],
)
def test_a_search_that_cannot_work_is_one_line(tmp_path, words, told):
    with pytest.raises(ConfigError) as error:
        check(settings(tmp_path, *(FIXED if "space=policies" not in words else ()), *words))
    assert all(word in str(error.value) for word in told), str(error.value)
    assert "\n" not in str(error.value)
