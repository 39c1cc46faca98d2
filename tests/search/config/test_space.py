"""The typed search space: every mistake is one line that names the key."""

import optuna
import pytest

from autoprune_lab.plugins.discovery import find_policy
from search.config.compose import compose
from search.config.dimension import Dimension
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.paths import select
from search.config.space import Space

K0 = "space.pruner.policy.k0"
WITHOUT = f"~{K0}"


def space(*overrides: str) -> Space:
    return Experiment.compose(overrides).space


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{K0}.low=3"], [K0, "low=3", "high=2"]),
        ([f"{K0}.low=-1"], [K0, "log"]),
        ([f"{K0}.low=nan"], [K0, "low=nan", "number"]),
        ([f"{K0}.high=many"], [K0, "high='many'", "number"]),
        ([f"{K0}.type=flaot"], [K0, "flaot", "did you mean float"]),
        ([f"+{K0}.lo=1"], [K0, "unknown key 'lo'"]),
        ([f"+{K0}.step=0.1"], [K0, "no step"]),
        ([WITHOUT, f"+{K0}={{low: 1, high: 2}}"], [K0, "no type"]),
        ([f"{K0}=3"], [K0, "mapping"]),
        ([f"+{K0}.choices=[1]"], [K0, "categorical"]),
        (["+space.pruner.policy.k9={type: float, low: 0, high: 1}"], ["pruner.policy.k9", "did you mean", "k0"]),
        (["+space.batch_size={type: int, low: 1, high: 9}"], ["batch_size", "pruner"]),
        (
            [WITHOUT, f"+{K0}={{type: categorical, choices: [a, b]}}"],
            [K0, "categorical", "0.4"],
        ),
        (
            [WITHOUT, f"+{K0}={{type: categorical, choices: [0.1, a]}}"],
            [K0, "categorical", "0.4"],
        ),
        (
            [WITHOUT, f"+{K0}={{type: categorical, choices: []}}"],
            [K0, "at least one"],
        ),
        (
            [WITHOUT, f"+{K0}={{type: categorical, choices: [0.1], low: 0}}"],
            [K0, "choices only"],
        ),
        (["policy=fixed", "space.pruner.policy.layer.type=float"], ["pruner.policy.layer", "float", "int"]),
        (["policy=fixed", "space.pruner.policy.layer.low=2.5"], ["pruner.policy.layer", "whole number"]),
        (["space.pruner.budget.flops_ratio.low=0.6"], ["pruner.budget.flops_ratio", "low=0.6", "high=0.5"]),
        (["budget=none", "scorer=random", "~space"], ["empty"]),
    ],
)
def test_a_wrong_space_is_refused_by_name(overrides, words):
    with pytest.raises(ConfigError) as error:
        space(*overrides)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_the_high_end_follows_the_bound():
    ends = {d.path: d.ends() for d in space("budget.flops_ratio=0.4").dimensions}
    assert ends["pruner.budget.flops_ratio"] == (0.24, 0.4)


def test_a_key_may_hold_the_whole_path(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.yaml").write_text(
        "# @package space\npruner.policy.layer: {type: int, low: 2, high: 5}\n"
    )
    searched = Experiment.compose(["policy=fixed", "space=mine", "budget=none", "scorer=random"], [tmp_path]).space
    assert [d.path for d in searched.dimensions] == ["pruner.policy.layer"]


def test_the_same_path_twice_is_refused(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "mine.yaml").write_text(
        "# @package space\npruner.policy.layer: {type: int, low: 2, high: 5}\n"
        "pruner:\n  policy:\n    layer: {type: int, low: 2, high: 5}\n"
    )
    with pytest.raises(ConfigError, match="twice"):
        Space.of(compose(["policy=fixed", "space=mine"], [tmp_path]).config)


def test_suggestions_reach_the_pruner_and_leave_the_config_alone():
    experiment = Experiment.compose(["policy=layerwise"])
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3)).ask()
    values = experiment.space.suggest(trial)
    pruner = experiment.pruner(values)
    assert set(trial.params) == set(values)
    assert pruner.policy.keep == tuple(values[f"pruner.policy.keep.{i}"] for i in range(3))
    assert pruner.budget.flops_ratio == values["pruner.budget.flops_ratio"]
    assert values["pruner.scorer._target_"].endswith(getattr(pruner.scorer, "func", pruner.scorer).__name__)
    assert experiment.pruner().policy.keep == (0.5, 0.25, 0.125)


@pytest.mark.parametrize("name", ["staircase_table", "staircase_blend"])
def test_steps_of_several_rows_are_searched_by_their_path(name):
    experiment = Experiment.compose([f"policy={name}"])
    for seed in range(5):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
        values = experiment.space.suggest(trial)
        policy = experiment.pruner(values).policy
        fields = [(path.removeprefix("pruner.policy."), value) for path, value in values.items() if ".policy." in path]
        assert fields == [(path, select(vars(policy), path)) for path, _ in fields]
        steps = {f"keep.{i}.{j}" for i in range(len(policy.keep)) for j in (0, 1)}
        assert steps == {path for path, _ in fields if path.startswith("keep")}
        assert {depths[0] for depths in policy.depths} == {0.0}
    defaults, alike = (experiment.pruner(experiment.space.changes(values)).policy for values in experiment.baselines)
    assert defaults == find_policy(name)()
    assert len({*alike.depths}) == len({*alike.keep}) == 1


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["policy=staircase_table", "pruner.policy.edges=[3,6]"], {"edges": (3.0, 6.0)}),
        (["policy=staircase_blend", "pruner.policy.low=3", "pruner.policy.high=6"], {"low": 3.0, "high": 6.0}),
    ],
)
def test_numbers_of_another_unit_are_typed_and_the_baselines_stay(words, typed):
    experiment = Experiment.compose(words)
    policies = [experiment.pruner(experiment.space.changes(values)).policy for values in experiment.baselines]
    assert len(policies) == 2
    assert all(vars(policy).items() >= typed.items() for policy in policies)


def test_a_baseline_is_the_config_with_its_changes():
    config = compose(["policy=fixed", "budget.flops_ratio=0.3"]).config
    values = Space.of(config).complete({"pruner.policy.layer": 3}, config, "b")
    assert values == {
        "pruner.policy.layer": 3,
        "pruner.budget.flops_ratio": 0.3,
        "pruner.scorer._target_": "autoprune_lab.selection.scorers.last_token_attention",
    }


def test_a_config_outside_the_space_is_left_to_the_sampler():
    config = compose(["policy=fixed"]).config
    config["pruner"]["policy"]["layer"] = 31
    values = Space.of(config).complete({}, config, "b")
    assert set(values) == {"pruner.budget.flops_ratio", "pruner.scorer._target_"}


def pinned(*overrides: str) -> tuple[list[str], set[str], list[dict[str, object]]]:
    """What is pinned, what is still searched, and the baselines; all of them suit the space."""
    settings = compose(overrides)
    searched, baselines = Space.of(settings.config), settings.typed.search.baselines
    for baseline in baselines:
        searched.complete(baseline, settings.config, "b")
    names = {d.name for o in [*searched.groups] for option in o.options for d in option.dimensions}
    return settings.typed.search.pinned, names | {d.name for d in searched.dimensions}, baselines


BUDGET, SCORER = "pruner.budget.flops_ratio", "pruner.scorer._target_"


@pytest.mark.parametrize(
    ("overrides", "pins", "left", "baselines"),
    [
        (["policy=fixed"], [], {"pruner.policy.layer", BUDGET, SCORER}, [{"pruner.policy.layer": 2}]),
        (
            ["policy=fixed", "pruner.policy.layer=12"],  # it may lie outside the range that would be searched
            ["pruner.policy.layer=12"],
            {BUDGET, SCORER},
            [{}],
        ),
        (
            ["policy=fixed", "scorer=random", "++pruner.budget.flops_ratio=0.3"],
            [f"{BUDGET}=0.3"],
            {"pruner.policy.layer"},
            [{"pruner.policy.layer": 2}],
        ),
        (
            ["policy=layerwise", "pruner.policy.keep=[0.5,0.25,0.1]"],  # a whole list pins its parts
            [f"pruner.policy.keep.{i}={keep}" for i, keep in enumerate((0.5, 0.25, 0.1))],
            {*(f"pruner.policy.depths.{i}" for i in range(3)), BUDGET, SCORER},
            [{f"pruner.policy.depths.{i}": depth for i, depth in enumerate((0.25, 0.5, 0.75))}],
        ),
        (["policy=fixed", "scorer=random", "budget.flops_ratio=0.3"], [], {"pruner.policy.layer", BUDGET}, None),
        (["policy=fixed", "method=fastv", "scorer=random"], [], {"pruner.policy.layer", BUDGET}, None),
        (["space=policies", "scorer=random", "policy=fixed"], ["policy=fixed"], {"pruner.policy.layer", BUDGET}, None),
        (
            ["space=policies", "space.policy.choices=[fixed,layerwise]", "policy=fixed", "pruner.policy.layer=3"],
            ["fixed/pruner.policy.layer=3"],
            {*(f"layerwise/pruner.policy.{f}.{i}" for f in ("keep", "depths") for i in range(3)), BUDGET, SCORER},
            None,
        ),
    ],
)
def test_what_is_typed_is_not_searched(overrides, pins, left, baselines):
    found = pinned(*overrides)
    assert found[:2] == (pins, left)
    assert baselines is None or found[2] == baselines


def test_a_study_of_a_typed_policy_bears_its_name():
    settings = compose(["space=policies", "policy=fixed"])
    assert settings.typed.study == "fixed"
    assert settings.typed.search.baselines == [{"pruner.policy.layer": 2}]


def test_an_experiment_s_file_may_set_a_field_and_search_it(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "deep.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /policy: fixed\npruner: {policy: {layer: 5}}\n"
    )
    settings = compose(["experiment=deep"], [tmp_path])
    assert settings.typed.search.pinned == []
    assert "pruner.policy.layer" in {d.path for d in Space.of(settings.config).dimensions}
    assert settings.config["pruner"]["policy"]["layer"] == 5


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({"pruner.policy.layer": 9}, ["pruner.policy.layer=9", "[2", "8"]),
        ({"pruner.policy.layer": 2.5}, ["pruner.policy.layer=2.5", "int"]),
        ({"pruner.policy.layer": True}, ["pruner.policy.layer=True", "int"]),
        ({"pruner.policy.layr": 3}, ["pruner.policy.layr", "did you mean pruner.policy.layer"]),
        ({"pruner.scorer._target_": "autoprune_lab.selection.scorers.random"}, ["pruner.scorer._target_", "not among"]),
    ],
)
def test_a_baseline_outside_the_space_is_refused(baseline, words):
    config = compose(["policy=fixed"]).config
    with pytest.raises(ConfigError) as error:
        Space.of(config).complete(baseline, config, "search.baselines[0]")
    assert all(word in str(error.value) for word in ["search.baselines[0]", *words]), str(error.value)


def test_a_whole_number_is_a_float_where_a_float_is_searched():
    config = compose(["space.pruner.policy.x0.low=2"]).config
    searched = Space.of(config)
    values = searched.complete({"pruner.policy.x0": 15}, config, "b")
    low = {d.path: d.ends()[0] for d in searched.dimensions}["pruner.policy.x0"]
    assert [(type(value), value) for value in (values["pruner.policy.x0"], low)] == [(float, 15.0), (float, 2.0)]


def test_choices_keep_their_type():
    dimension = Dimension("a", "categorical", choices=(True, 1.5))
    dimension.check(True, "x")
    with pytest.raises(ConfigError, match="not among"):
        dimension.check(1, "x")
