"""A study that chooses the policy itself: options bring their own fields, dimensions and baselines."""

from itertools import pairwise

import numpy as np
import optuna
import pytest
from fake_evaluator import SMALL, FakeEvaluator, objective, run, settings
from optuna.trial import TrialState

from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.space import Space
from search.results import report, study_result
from search.results.trial_table import trials_frame
from search.study import loop
from search.study.preflight import check_study  # noqa: F401  (imports torch once, before anything is timed)
from search.study.storage import StudyStorage

optuna.logging.set_verbosity(optuna.logging.ERROR)
NAMES = ("fixed", "layerwise", "logistic_adaptive", "staircase_blend", "staircase_table")
OWN = "from policies.fixed import FixedPolicy\n\n\nclass MinePolicy(FixedPolicy):\n    pass\n"


@pytest.fixture(scope="module")
def composed():
    return compose(["space=policies", f"space.policy.choices=[{','.join(NAMES)}]"])


@pytest.fixture(scope="module")
def space(composed):
    return Space.of(composed.config)


def ask(space, seed, **fixed):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    trial = optuna.create_study(sampler=optuna.samplers.PartialFixedSampler(fixed, sampler)).ask()
    return trial, space.suggest(trial)


def test_only_the_chosen_option_s_dimensions_are_suggested(space):
    trial, changes = ask(space, 0, policy="fixed")
    assert set(trial.params) == {
        "policy", "fixed/pruner.policy.layer", "pruner.budget.flops_ratio", "pruner.scorer._target_"
    }  # fmt: skip
    assert changes["pruner.policy.layer"] == trial.params["fixed/pruner.policy.layer"]


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_becomes_its_policy_with_its_settings(space, composed, name):
    trial, changes = ask(space, 1, policy=name)
    policy = Experiment(composed).pruner(changes).policy
    alone = compose([f"policy={name}", *(f"{p}={v}" for p, v in changes.items() if p.startswith("pruner.policy."))])
    assert policy == Experiment(alone).pruner().policy
    assert space.changes(trial.params) == changes


def test_the_published_settings_of_every_option_are_its_baselines(space, composed):
    baselines = [space.complete(b, composed.config, "b") for b in composed.typed.search.baselines]
    assert [b["policy"] for b in baselines] == [*NAMES[:4], NAMES[3], NAMES[4], NAMES[4]]  # staircases have two each
    assert baselines[0]["fixed/pruner.policy.layer"] == 2
    assert all(b["pruner.budget.flops_ratio"] == 0.5 for b in baselines)
    assert not any(name.startswith("layerwise/") for name in baselines[0])


def test_a_baseline_without_a_choice_is_the_config_s_own(space, composed):
    assert space.complete({}, composed.config, "b")["policy"] == "logistic_adaptive"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({"policy": "fixd"}, ["policy='fixd'", "did you mean fixed"]),
        ({"policy": "fixed", "pruner.policy.k0": 1.0}, ["pruner.policy.k0", "belongs to policy=logistic_adaptive"]),
        ({"policy": "fixed", "pruner.policy.layer": 99}, ["pruner.policy.layer=99", "[2"]),
    ],
)
def test_a_baseline_outside_its_option_is_refused(space, composed, baseline, words):
    with pytest.raises(ConfigError) as error:
        space.complete(baseline, composed.config, "search.baselines[0]")
    assert all(word in str(error.value) for word in ["search.baselines[0]", *words]), str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["space=policies", "space.policy.choices=[fixd]"], ["space.policy.choices", "'fixd'", "did you mean fixed"]),
        (["+space.policy={type: group, low: 1}"], ["space.policy", "'low'"]),
        (["+space.polcy={type: group}"], ["space.polcy", "no config group"]),
        (["+space.policy={type: group}"], ["space.pruner.policy.k0", "space.policy chooses", "conf/space"]),
        (["+space.budget={type: group, choices: [flops, tokens]}"], ["space.budget", "'tokens'", "budget"]),
        (["space=policies", "+space.pruner.policy.layer={type: int, low: 2, high: 4}"], ["space.pruner.policy.layer"]),
    ],
)
def test_a_wrong_group_is_one_line(words, told):
    with pytest.raises(ConfigError) as error:
        Space.of(compose(words).config)
    assert all(word in str(error.value) for word in told), str(error.value)
    assert "\n" not in str(error.value)


def test_any_group_that_changes_the_pruner_can_be_searched():
    words = ["policy=fixed", "scorer=random", "recovery=drop"]
    searched = Experiment.compose([*words, "+space.recovery={type: group}", "+space.scorer={type: group}"])
    space = searched.space
    _, changes = ask(space, 0, recovery="cluster_merge", scorer="feature_norm")
    ran = plain(searched.pruner(changes))
    assert [ran[key]["_target_"].rpartition(".")[2] for key in ("recovery", "scorer")] == [
        "ClusterMerge",
        "feature_norm",
    ]


def test_two_groups_that_set_the_same_field_are_refused():
    words = ["space=policies", "scorer=random", "+space.method={type: group, choices: [fastv, pdrop]}"]
    with pytest.raises(ConfigError, match=r"space.pruner.policy is given twice"):
        Space.of(compose(words).config)


def test_a_policy_of_ones_own_is_an_option(tmp_path, monkeypatch):
    (tmp_path / "mine_pkg").mkdir()
    (tmp_path / "mine_pkg" / "mine.py").write_text(OWN)
    for group, text in (
        ("policy", "# @package pruner.policy\n_target_: mine_pkg.mine.MinePolicy\nlayer: 3\nkeep: 0.5\n"),
        ("space", "# @package space\npruner.policy.layer: {type: int, low: 3, high: 4}\n"),
    ):
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    searched = Experiment.compose(["space=policies"], [tmp_path / "conf"])
    trial, changes = ask(searched.space, 0, policy="mine")
    assert trial.params["mine/pruner.policy.layer"] in (3, 4)
    assert type(searched.pruner(changes).policy).__name__ == "MinePolicy"


def test_the_command_line_s_own_settings_hold_for_the_config_s_option():
    config = compose(["space=policies", "pruner.policy.x_gamma=2", "pruner.probe_layer=2"]).config
    (option,) = [o for o in Space.of(config).groups[0].options if o.name == "logistic_adaptive"]
    assert option.sets["pruner.policy"]["x_gamma"] == 2
    assert config["pruner"]["probe_layer"] == 2


class OfMutualInformation(FakeEvaluator):
    """Tells the bits that the embedded model's samples have at layer 1."""

    def complexities(self, pruner):
        return np.array([0.04, 0.065, 0.09]) if pruner.policy.adaptive else np.zeros(3)


@pytest.mark.parametrize(("name", "ends"), [("staircase_table", [10, 7, 5]), ("staircase_blend", [10, 7, 4])])
def test_a_study_of_staircases_by_a_number_runs_whole(tmp_path, name, ends):
    given = settings(tmp_path, f"policy={name}", "budget.flops_ratio=0.25", "search.n_trials=12")
    evaluator = OfMutualInformation()
    study = run(given, evaluator)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 12  # no setting is refused, all are within reach
    assert all(t.values[0] <= 0.25 for t in study.trials)
    by_default, alike = (one.plan(evaluator.complexities(one), [SMALL] * 3).tokens for one in evaluator.runs[:2])
    after_probe = by_default[:, 2:].tolist()
    assert [[a > 5 * b for a, b in pairwise(row)].index(True) + 3 for row in after_probe] == ends  # the step to a tenth
    assert (alike == alike[0]).all()
    tuned = report.tuned_pruners(study, given, study_result.write(study, given.settings))
    assert tuned
    assert {Pruner.load(file) for file in (given.out / "tuned").glob("*.yaml")} == set(tuned.values())


def test_a_study_over_policies_resumes_and_leaves_its_tables_and_pruners(tmp_path):
    words = ("space=policies", "space.policy.choices=[fixed,layerwise,logistic_adaptive]", "search.n_trials=12")
    given = settings(tmp_path, *words)

    def run(evaluator):
        opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
        loop.enqueue(opened, given.baselines)
        loop.run(opened, objective(given, evaluator), given)
        return opened

    with pytest.raises(KeyboardInterrupt):
        run(FakeEvaluator(stop_at=6))
    study = run(FakeEvaluator())
    done = [t for t in study.trials if t.state != TrialState.FAIL]
    assert len(done) == 12
    assert {t.params["policy"] for t in done} == {"fixed", "layerwise", "logistic_adaptive"}
    frame = trials_frame(study)
    of_fixed = frame["fixed/pruner.policy.layer"].notna()
    assert set(frame.loc[of_fixed, "policy"]) == {"fixed"}
    tuned = report.tuned_pruners(study, given, study_result.write(study, given.settings))
    params = {str(t.number): t.params["policy"] for t in done}
    names = {"fixed": "FixedPolicy", "layerwise": "LayerwisePolicy", "logistic_adaptive": "LogisticAdaptivePolicy"}
    assert tuned
    for number, pruner in tuned.items():
        assert type(pruner.policy).__name__ == names[params[str(number)]]
    changed = settings(tmp_path, *words, "space.policy.choices=[fixed,layerwise]")
    remedy = r"go on with space.policy.choices=\[fixed,layerwise,logistic_adaptive\]"
    with pytest.raises(ConfigError, match=remedy):
        loop.open_study(StudyStorage.of(changed.typed), changed.made_of())
