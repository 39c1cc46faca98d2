"""`autoprune sweep`: which studies, each of them one like any other, and one table at the end."""

import pandas as pd
import pytest
from fake_evaluator import finish, refused

from search import pipeline
from search.cli import main
from search.commands import sweep
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.overrides import values_of
from search.config.sweep import place_of, points

WORDS = ["policy=fixed,layerwise", "seed=0,1", "search.n_trials=4", "tracking=none", "study=two", "report.ratios=[0.5]"]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("policy=fixed,layerwise", ["fixed", "layerwise"]),
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("budget.flops_ratio=0.3,0.5", ["0.3", "0.5"]),
        ("pruner.policy.edges=[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("policy=fixed", []),
        ("pruner.policy.edges=[1,2]", []),
        ("task=pope,gqa", []),  # one task
        ("study=a,b", []),  # a text
        ("task.path=a,b.jsonl", []),
        ("a=(", []),
    ],
)
def test_which_words_name_several_values(word, values):
    assert values_of(word) == values


def test_every_combination_is_a_study_named_by_its_values():
    found = points(["batch_size=8", *WORDS])
    assert [point.name for point in found] == ["fixed-s0", "fixed-s1", "layerwise-s0", "layerwise-s1"]
    assert found[1].words == [
        *("batch_size=8", "search.n_trials=4", "tracking=none", "report.ratios=[0.5]"),
        *("policy=fixed", "seed=1", "folder=runs/two", "study=fixed-s1"),
    ]
    assert [point.name for point in points(["seed=0,1"])] == ["sweep-s0", "sweep-s1"]
    assert [point.name for point in points(["seed=0,1", "policy=fixed"])] == ["fixed-s0", "fixed-s1"]
    three = points(["seed=1,2", "policy=fixed,layerwise", "budget.flops_ratio=0.3,0.5"])
    assert [point.name for point in three][:2] == ["fixed-0.3-s1", "fixed-0.5-s1"]
    assert points(["+a.b=[1,2],[3]"])[0].words[0] == "+a.b=[1,2]"
    assert points(["pruner.policy.edges=[1,2],[3,4]"])[0].name == "_1_2_"


def test_where_it_is_kept(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(place_of(["folder=~/runs", "study=wide"])) == "/home/me/runs/wide"
    assert str(place_of([])) == "runs/sweep"
    with pytest.raises(ConfigError, match="names no folder"):
        place_of(["study=../x"])


@pytest.fixture
def ran(monkeypatch):
    """Studies without a model: what was checked, and what was run."""
    done = {"checked": [], "run": []}

    def run(experiment):
        done["run"].append(experiment.name)
        return finish(experiment)

    monkeypatch.setattr(pipeline, "check", lambda experiment: done["checked"].append(experiment.name))
    monkeypatch.setattr(pipeline, "run", run)
    return done


def test_all_are_checked_run_and_compared_and_more_values_add_studies(here, ran, capsys):
    assert main(["sweep", *WORDS, "--at", "0.5"]) == 0
    names = ["fixed-s0", "fixed-s1", "layerwise-s0", "layerwise-s1"]
    assert ran == {"checked": names, "run": names}
    shown = capsys.readouterr()
    for words in ("runs/two/fixed-s0  4 trials, best score", "report split", "score@0.5", "Wilcoxon", "fronts.png"):
        assert words in shown.out
    assert "study 2 of 4: fixed-s1" in shown.err
    place = here / "runs" / "two"
    table = pd.read_csv(place / "summary.csv")
    assert table[["study", "split", "seeds"]].to_numpy().tolist() == [
        ["fixed", "tune split", 2],
        ["layerwise", "tune split", 2],
        ["fixed", "report split", 2],
        ["layerwise", "report split", 2],
    ]
    assert (place / "summary.tex").read_text().startswith(r"\begin{tabular}{llr")
    assert (place / "fronts.png").read_bytes()[:4] == b"\x89PNG"
    before = {name: (place / name / "trials.csv").read_text() for name in names}
    assert main(["sweep", "policy=fixed", "seed=0,1,2", *WORDS[2:], "-q"]) == 0
    assert {name: (place / name / "trials.csv").read_text() for name in names} == before
    assert len(pd.read_csv(place / "fixed-s2" / "trials.csv")) == 4
    assert capsys.readouterr().err == ""


def test_ctrl_c_says_how_to_go_on(here, ran, monkeypatch, capsys):
    def stop(experiment):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", stop)
    assert main(["sweep", "-q", *WORDS]) == 130
    told = capsys.readouterr().err
    assert "finished trials are kept in runs/two. To go on: autoprune sweep policy=fixed,layerwise seed=0,1" in told


def test_cfg_shows_every_study_and_runs_none(here, ran, capsys):
    assert main(["sweep", *WORDS, "-m", "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nstudy: ") == 4
    assert "--- # layerwise-s1\n" in shown
    assert ran == {"checked": [], "run": []}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["policy=fixed"], ["nothing is swept", "seed=0,1,2"]),
        (["seed=1,1"], ["two studies", "sweep-s1"]),
        (["seed=0,1", "out=x"], ["out=x has no place", "study=NAME"]),
        (["policy=fixed,layerwis"], ["unknown policy 'layerwis'", "layerwise"]),
        (["seed=0,1", "study=.."], ["study='..'"]),
    ],
)
def test_mistakes_are_told_before_anything_runs(words, parts, here, ran, capsys):
    refused(["sweep", *words], parts, capsys, here)
    assert ran["run"] == []


def test_what_could_not_be_compared_is_not_begun(ran):
    unlike = [Experiment.compose([f"search.cost={cost}"]) for cost in ("flops_ratio", "kv_bytes")]
    with pytest.raises(ConfigError, match=r"search.cost=flops_ratio,kv_bytes: .* a sweep for each"):
        sweep._check(unlike)
    assert ran == {"checked": [], "run": []}


def test_a_study_s_folder_is_no_sweep_s(here, ran, capsys):
    (here / "runs" / "two").mkdir(parents=True)
    (here / "runs" / "two" / "config.yaml").touch()
    refused(["sweep", *WORDS], ["runs/two is the folder of a study", "study=NAME"], capsys, here)


def test_a_mistake_of_one_study_is_found_before_the_first_runs(here, capsys, no_model):
    words = ["policy=fixed", "budget.flops_ratio=0.4,0.0001", "task.per_kind=1", "report.task.per_kind=1"]
    assert main(["sweep", *words]) == 2
    assert "0.0001" in capsys.readouterr().err
    assert not (here / "runs").exists()
