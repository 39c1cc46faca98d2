"""A tuned pruner leaves the lab."""

import shutil

import pytest
from fake_evaluator import NO_ARMS, finished, refused

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.pruner import Pruner
from search.cli import main
from search.config.errors import ConfigError
from search.results.export import Pick
from search.results.study_result import StudyResult


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"), "fixed", "search=tpe", "policy=fixed", "~report.arms.random")


def test_a_point_of_the_front_is_exported_as_it_was_tuned(study, here, capsys):
    for index, label in enumerate(study.front.labels):
        words = ["pick=budget", f"at={study.front.costs[index] + 1e-6}", "out=sub/tuned.yaml"]
        assert main(["export", f"study={study.folder}", *words]) == 0
        assert f"trial {label}: FLOPs ratio {study.front.costs[index]:.4f}" in capsys.readouterr().out
        expected = Pruner.load(study.folder / "tuned" / f"trial-{label}.yaml")
        assert Pruner.load(here / "sub" / "tuned.yaml") == expected


def test_the_file_says_where_it_comes_from_on_both_splits(study, here):
    assert main(["export", str(study.folder)]) == 0
    knee = study.front.labels[study.front.knee()]
    first = (here / "tuned.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# study fixed, trial {knee}: FLOPs ratio")
    assert "(tune split)" in first
    assert "(report split)" in first


def test_any_trial_within_the_bound_can_be_exported(study, here):
    ran = study.trials[study.trials["feasible"] & ~study.trials["front"]]
    number = int(ran["trial"].iloc[0])
    assert main(["export", str(study.folder), "--pick", str(number), "--out", "other.yaml"]) == 0
    layer = ran.set_index("trial").loc[number, "pruner.policy.layer"]
    assert Pruner.load(here / "other.yaml").policy.layer == layer


def test_the_whole_front_is_exported_into_a_folder(study, here, capsys):
    assert main(["export", str(study.folder), "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(study.front.labels)
    assert main(["export", str(study.folder), "--all", "--out", "other"]) == 0
    for folder in ("fixed-pruners", "other"):
        assert {file.name for file in (here / folder).iterdir()} == {f"trial-{n}.yaml" for n in study.front.labels}
    for n in study.front.labels:
        tuned = Pruner.load(study.folder / "tuned" / f"trial-{n}.yaml")
        assert Pruner.load(here / "other" / f"trial-{n}.yaml") == tuned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "--pick", "1"], ["--all writes every trial of the front", "leave out pick"]),
        (["--pick", "99"], ["no trial 99 within the bound", "trials: 0, 1"]),
        (["--pick", "kne"], ["pick=kne is unknown", "did you mean knee", "trial's number"]),
        (["--pick", "budget"], ["pick=budget and at=RATIO go together"]),
        (["pick=knee", "at=0.3"], ["pick=budget and at=RATIO go together"]),
        (["pick=budget", "at=0.1"], ["costs at most 0.1", "the cheapest is trial"]),
        (["pick=budget", "at=much"], ["at=much must be a FLOPs ratio"]),
        (["pik=knee"], ["unknown key 'pik'", "did you mean pick"]),
        (["study=other"], ["one study at a time"]),
    ],
)
def test_mistakes_are_answered_with_what_exists(words, said, study, here, capsys):
    refused(["export", str(study.folder), *words], said, capsys, here)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("trials.csv", lambda text: text[:30]),
        ("trials.csv", lambda text: text.splitlines()[0]),
        ("trials.csv", lambda text: text.replace("0.", "x.")),
        ("front.csv", lambda text: text.replace("0.", "x.")),
        ("front.csv", lambda text: ""),
        ("report.csv", lambda text: text.replace("0.", "x.")),
    ],
)
@pytest.mark.parametrize("verb", ["export", "compare"])
def test_a_damaged_table_is_told_in_one_line(verb, name, damage, study, here, capsys):
    shutil.copytree(study.folder, here / "hurt")
    (here / "hurt" / name).write_text(damage((study.folder / name).read_text()))
    refused([verb, "hurt"], ["hurt/", ".csv cannot be read", "run its study again"], capsys, here)


def test_a_study_is_found_by_its_name_below_runs(study, here, capsys):
    refused(["export"], ["which study?"], capsys, here)
    (here / "runs").mkdir()
    (here / "runs" / "fixed").symlink_to(study.folder)
    refused(["export", "fxed"], ["no study 'fxed'", "did you mean fixed", "studies in runs: fixed"], capsys, here)
    assert main(["export", "study=fixed"]) == 0


def test_nothing_is_picked_of_an_empty_front(study):
    empty = type(study)("none", study.folder, ParetoFront(), study.trials, study.report)
    with pytest.raises(ConfigError, match=r"the front of none is empty: 0 dominated"):
        Pick("knee").trial(empty)


def test_a_pruner_of_a_user_s_own_policy_loads_by_the_line_that_is_printed(tmp_path, here, monkeypatch, capsys):
    (here / "my_policies").mkdir()
    (here / "my_policies" / "mine.py").write_text(
        "from policies.fixed import FixedPolicy\n\n\nclass MinePolicy(FixedPolicy):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(here))
    words = ["policy=fixed", "pruner.policy._target_=my_policies.mine.MinePolicy", *NO_ARMS]
    study = finished(tmp_path / "runs", "mine", *words)
    assert main(["export", str(study.folder)]) == 0
    line = capsys.readouterr().out.splitlines()[-1].removeprefix("use it   ")
    assert line == "pruner = Pruner.load('tuned.yaml', packages=['my_policies'])"
    names = {"Pruner": Pruner}
    exec(line, names)
    assert type(names["pruner"].policy).__name__ == "MinePolicy"
    refused(
        ["evaluate", "--pruner", "tuned.yaml"], ["needs code of my_policies", "--package my_policies"], capsys, here
    )


def test_what_is_no_pruner_is_not_exported(study, here, monkeypatch, capsys):
    number = int(study.front.labels[0])
    for node, said in (
        (3, "got 3, expected a Pruner"),
        ({"_target_": "policies.fixed.FixedPolicy"}, "expected a Pruner"),
    ):
        monkeypatch.setattr(StudyResult, "pruners", {number: node})
        refused(["export", str(study.folder), "--pick", str(number)], [f"trial {number}: ", said], capsys, here)
