"""Every search of conf/search runs, keeps the bound, and goes on from where it was; on an evaluator without a model."""

import builtins
import importlib.util
import itertools
import sys

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
BOTORCH = pytest.mark.skipif(
    importlib.util.find_spec("botorch") is None, reason="BoTorch is not installed: pip install 'autoprune-lab[botorch]'"
)
QUICK = ["search.sampler.n_startup_trials=4"]  # a process learns from the fifth trial on


def each(names):
    return [pytest.param(name, marks=BOTORCH if name == "botorch" else ()) for name in names]


def check(given):
    samplers.check(given)


def points(study):
    return [(t.params, t.values, t.state) for t in study.trials if t.state != TrialState.FAIL]


@pytest.mark.parametrize("mode", ["front", "best"])
@pytest.mark.parametrize("search", each(options_of("search")))
def test_every_search_finds_points_within_the_bound(tmp_path, search, mode):
    given = settings(tmp_path, *FIXED, f"search={search}", f"search.mode={mode}", "search.n_trials=10")
    check(given)
    study = run(given, FakeEvaluator())
    assert len(points(study)) == 10
    assert all(t.constraints for t in study.trials)
    assert from_study(study).costs
    assert max(from_study(study).costs) <= 0.5


@pytest.mark.parametrize("search", each(["botorch", "ehvi", "ehvi_then_tpe", "gp", "gradient", "nsga3", "qmc", "grid"]))
def test_an_interrupted_search_goes_on_as_if_it_had_not_stopped(tmp_path, search):
    more = {"botorch": QUICK, "gp": QUICK, "ehvi_then_tpe": ["search.sampler.n_ehvi=6"]}.get(search, [])
    words = (*FIXED, f"search={search}", f"search.n_trials={7 if search == 'botorch' else 10}", *more)
    whole = run(settings(tmp_path / "whole", *words), FakeEvaluator())
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path / "cut", *words), FakeEvaluator(stop_at=2))
    resumed, expected = points(run(settings(tmp_path / "cut", *words), FakeEvaluator())), points(whole)
    if search == "grid":  # the same points; optuna numbers them by the trial, so the order is another
        resumed, expected = sorted(resumed, key=str), sorted(expected, key=str)
    assert resumed == expected


def test_one_sampler_follows_another_after_so_many_trials(tmp_path):
    def study(*words):
        given = settings(tmp_path / words[0], *FIXED, *words, "search.n_trials=14")
        return given, run(given, FakeEvaluator())

    (given, both), (_, first) = study("search=ehvi_then_tpe", "search.sampler.n_ehvi=12"), study("search=ehvi")
    params = [trial.params for trial in both.trials]
    assert params[:12] == [trial.params for trial in first.trials[:12]]
    known = optuna.create_study(directions=given.goal.directions)
    known.add_trials(both.trials[:12])
    known.sampler = settings(tmp_path, *FIXED, "search=tpe").sampler(12)
    given.space.suggest(trial := known.ask())
    assert trial.params == params[12] != first.trials[12].params


def test_a_space_with_groups_is_tpe_s_from_the_first_trial(tmp_path):
    params = []
    for search in ("ehvi_then_tpe", "tpe"):
        given = settings(tmp_path / search, "space=policies", f"search={search}", "search.n_trials=12")
        params.append([trial.params for trial in run(given, FakeEvaluator()).trials])
    assert params[0] == params[1]


@BOTORCH
@pytest.mark.parametrize(
    ("mode", "space", "n_trials"),
    [("front", FIXED, 7), ("best", ("space=policies",), 12)],  # of policies, each one's own settings come first
)
def test_botorch_learns_limits_and_in_a_space_with_groups(tmp_path, mode, space, n_trials):
    words = [*space, "search=botorch", f"search.mode={mode}", f"search.n_trials={n_trials}", *QUICK]
    study = run(settings(tmp_path, *words, "search.limits={collision_rate: 0.27}"), FakeEvaluator())
    assert len(points(study)) == n_trials
    over = [trial.constraints["limit/collision_rate"] > 0 for trial in study.trials]
    assert 0 < sum(over) < n_trials


def test_botorch_that_is_not_there_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "optuna_integration":
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r"^search.sampler: search=botorch needs .* pip install 'autoprune-lab\[botorch\]'"
    ):
        check(settings(tmp_path, *FIXED, "search=botorch"))


def test_a_sampler_of_optunahub_is_named_through_a_module_of_one_s_own(tmp_path, monkeypatch):
    pytest.importorskip("optunahub", reason="optunahub is not installed: pip install optunahub")
    package = tmp_path / "hub" / "samplers" / "middle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import optunahub\n\n\n"
        "class MiddleSampler(optunahub.samplers.SimpleBaseSampler):\n"
        "    def __init__(self, seed=None, search_space=None):\n"
        "        super().__init__(search_space, seed=seed)\n\n"
        "    def sample_relative(self, study, trial, search_space):\n"
        "        return {name: (d.low + d.high) / 2 for name, d in search_space.items() if name.endswith('ratio')}\n"
    )
    (tmp_path / "my_samplers.py").write_text(
        "import optunahub\n\n"
        f"hub = optunahub.load_local_module('samplers/middle', registry_root={str(tmp_path / 'hub')!r})\n"
        "MiddleSampler = hub.MiddleSampler\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["~search.sampler", "+search.sampler={_target_: my_samplers.MiddleSampler, seed: ${seed}}"]
    given = settings(tmp_path, *FIXED, *words, "search.n_trials=6", "search.baselines=[]")
    check(given)
    ratios = [trial.params["pruner.budget.flops_ratio"] for trial in run(given, FakeEvaluator()).trials]
    assert ratios[3:] == pytest.approx([0.37] * 3)  # the first ones have nothing to be relative to
    sys.modules.pop("my_samplers")


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
