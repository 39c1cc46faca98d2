"""Every file of conf/ composes, names code that exists, and lists all of its fields."""

import inspect
from functools import cache

import pytest
from hydra.utils import get_object, instantiate

from search.config.catalogue import conf_dir, options_of
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.instantiate import build, build_pruner, check_targets
from search.config.paths import select
from search.config.space import Space

GROUPS = (
    "policy", "budget", "scorer", "complexity", "recovery", "method",
    "search", "tracking", "launcher", "experiment", "task", "model",
)  # fmt: skip
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((conf_dir() / group).glob("*.yaml"))]
NEEDS = {"budget=official": ["recovery=cluster_merge"]}  # it merges


@cache
def composed(word):
    """The settings by that word alone, composed once for all who look at them."""
    return compose([word])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_its_targets_take_its_fields(group, option):
    word, open_path = f"{group}={option}", "path: ???" in (conf_dir() / group / f"{option}.yaml").read_text()
    needs = [f"{group}.path=here"] if open_path else NEEDS.get(word, [])
    settings = compose([word, *needs]) if needs else composed(word)
    assert settings.choices[group] == option
    for key in ("model", "task", "pruner", "search", "tracking", "launcher"):
        check_targets(settings.config[key], key)
    Experiment(settings).pruner()


def test_every_group_is_tested():
    folders = {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}
    assert folders == {*GROUPS, "space"}


@pytest.mark.parametrize("option", [name for name in options_of("space") if name in options_of("policy")])
def test_every_space_fits_its_policy_and_holds_its_baselines(option):
    settings = composed(f"policy={option}")
    space = Space.of(settings.config)
    assert {d.path.split(".")[1] for d in space.dimensions} == {"policy", "budget", "scorer"}
    assert settings.typed.search.baselines
    for baseline in settings.typed.search.baselines:
        assert set(space.complete(baseline, settings.config, "b")) == {d.path for d in space.dimensions}


def test_the_space_over_policies_holds_all_of_them_with_their_baselines():
    settings = compose(["space=policies"])
    space = Space.of(settings.config)
    assert [option.name for option in space.groups[0].options] == options_of("policy")
    assert settings.typed.study == "policies"
    for i, baseline in enumerate(settings.typed.search.baselines):
        assert len(space.complete(baseline, settings.config, f"b[{i}]")) >= 4
    of_no_policy = {"policies", "operators"}
    assert {b["policy"] for b in settings.typed.search.baselines} == set(options_of("space")) - of_no_policy


@pytest.mark.parametrize("option", ["tpe", "random", "nsga2", "nsga3", "gp"])
def test_every_sampler_is_made_with_the_seed_of_the_study(option):
    sampler = compose([f"search={option}", "seed=7"]).typed.search.sampler
    assert sampler["seed"] == 7
    assert type(instantiate(sampler)).__name__ == sampler["_target_"].rpartition(".")[2]


@pytest.mark.parametrize(("group", "option"), [o for o in OPTIONS if o[0] in ("scorer", "complexity", "recovery")])
def test_parts_with_parameters_list_them(group, option):
    node = composed(f"{group}={option}").config["pruner"][group]
    function = get_object(node["_target_"])
    named = {n for n, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    assert named == {key for key in node if not key.startswith("_")}


def test_the_arms_of_the_report_can_be_built_and_probe_where_the_study_does():
    arms = Experiment.compose(["pruner.probe_layer=2"]).arms
    assert [type(pruner.policy).__name__ for pruner in arms.values()][:2] == ["FixedPolicy", "LayerwisePolicy"]
    assert {pruner.probe_layer for pruner in arms.values()} == {2}


def test_the_report_uses_another_split():
    typed = compose().typed
    assert typed.task["split"] == "tune"
    assert typed.report.task["split"] == "report"


@pytest.mark.parametrize(
    "path",
    [
        "/data/My Data (v2)/m.jsonl", "/data/\u6570\u636e/caf\u00e9.jsonl", "/data/a=b/m.jsonl", "/data/a,b/m.jsonl",
        "data[1].jsonl", "[1]", "{a: 1}", "it's \"this\"", "a\\b\\", "~/m.jsonl", "#1; 50% & more!", "1e5", "007",
        "12e4567", "true", "choice(a,b)", "a: b",
    ],
)  # fmt: skip
def test_a_text_is_taken_as_it_is(path):
    settings = compose(["task=files", f"task.path={path}", f"study={path.replace('/', '_')}"])
    assert settings.typed.task["path"] == path
    assert settings.typed.study == path.replace("/", "_")


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("task.path='a b'", "task.path", "a b"),
        ("task.images=null", "task.images", None),
        ("task.path=${folder}/m.jsonl", "task.path", "runs/m.jsonl"),
        ("report.ratios=[0.5,0.25]", "report.ratios", [0.5, 0.25]),
        ("search.limits={a: 0.5}", "search.limits", {"a": 0.5}),
        ("batch_size=int(3.0)", "batch_size", 3),
        ("budget.flops_ratio=1e-1", "budget.flops_ratio", 0.1),
        ("cache=null", "cache", None),
        ("method=null", "pruner.policy._target_", "policies.logistic_adaptive.LogisticAdaptivePolicy"),
    ],
)
def test_what_hydra_s_grammar_can_read_means_what_it_says(word, path, value):
    config = compose(["task=files", "task.path=x", word]).config
    assert select(config, path) == value


def test_a_place_below_the_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    settings = compose(["task=files", "task.path=x", "folder=~/runs", "model.path=~/a b", "task.images=~/p"])
    assert (str(settings.out), settings.typed.model["path"]) == ("/home/me/runs/logistic_adaptive", "/home/me/a b")
    assert settings.typed.task["images"] == "/home/me/p"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("policy=null", "unknown policy 'null'; available: autoprune_official, "),
        ("budget=0.35", "unknown budget '0.35'; available: flops, mean, none, official, tokens"),
        ("~task", "~task: an experiment needs its task; to change it: task=NAME, of chartqa, "),
        ("pruner.policy=fixed", "pruner.policy=fixed: did you mean policy=fixed?"),
        ("==", "cannot read '==': write KEY=VALUE"),
    ],
)
def test_a_group_is_given_the_name_of_an_option(word, said):
    with pytest.raises(ConfigError) as error:
        compose([word])
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.path=null"], "task.path has no value: add task.path=VALUE to the command"),
        (["task.path=x", "task.images_outside=no"], "task.images_outside=no must be true or false"),
    ],
)
def test_a_text_is_never_taken_for_true_nor_null_for_a_text(words, said):
    with pytest.raises(ConfigError, match=said):
        build(compose(["task=files", *words]).config["task"], "task")


def test_a_config_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "It's mine, caf\u00e9 (v2)"
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "deep.yaml").write_text(
        "# @package pruner.policy\n_target_: policies.fixed.FixedPolicy\nlayer: 5\n"
    )
    assert Experiment.compose(["policy=deep"], [folder]).pruner().policy.layer == 5


def test_the_study_is_named_after_its_policy():
    assert str(compose(["policy=fixed"]).out) == "runs/fixed"
    assert str(compose(["study=mine", "folder=/else"]).out) == "/else/mine"


def test_a_config_folder_of_ones_own(tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "deep.yaml").write_text(
        "# @package pruner.policy\n_target_: policies.fixed.FixedPolicy\nlayer: 5\nkeep: 0.1\n"
    )
    assert Experiment.compose(["policy=deep"], [tmp_path]).pruner().policy.layer == 5


def test_a_target_that_does_not_exist_is_named():
    experiment = Experiment.compose(["pruner.policy._target_=policies.fixed.FixdPolicy"])
    near = "did you mean policies.fixed.FixedPolicy"
    with pytest.raises(ConfigError, match=f"pruner.policy._target_ 'policies.fixed.FixdPolicy' was not found; {near}"):
        experiment.pruner()
    with pytest.raises(
        ConfigError, match=r"task._target_ .* was not found: did you mean autoprune_lab.tasks.gqa.GQATask"
    ):
        build(compose(["task._target_=autoprune_lab.tasks.gqa.GQATsk"]).config["task"], "task")


def test_a_target_that_is_no_pruner_is_named():
    with pytest.raises(ConfigError, match="expected a Pruner"):
        build_pruner({"_target_": "policies.fixed.FixedPolicy"}, (), "pruner")


def test_a_field_that_the_target_does_not_take_is_named():
    experiment = Experiment.compose(["policy=fixed", "+pruner.policy.layers=3"])
    with pytest.raises(ConfigError, match=r"pruner.policy.layers'; did you mean layer"):
        experiment.pruner()


def test_a_value_that_the_target_refuses_is_told_in_its_words():
    with pytest.raises(ConfigError, match=r"^pruner.policy: layer=-1 must be >= 0"):
        Experiment.compose(["policy=fixed", "pruner.policy.layer=-1"]).pruner()
    with pytest.raises(ConfigError, match=r"^task: .*per_kind"):
        build(compose(["task.per_kind=0"]).config["task"], "task")
