"""`autoprune transfer`: pruners of studies without a model, used on a narrow one."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_evaluator import finished, refused

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from search.cli import main
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.config.variants import combinations, variant
from search.methods import transfer_page
from search.methods.transfer import Place, Tuned, places_of, scaled
from search.results.study_result import StudyResult
from search.study import model_evaluator
from search.study.replay import GivenCurve

FEW = ("task.per_kind=1", "report.task.per_kind=2", "~report.arms.random", "~report.arms.uniform")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, checkpoint):
    """Two studies, of two policies, on two models: the narrow one and a copy of it."""
    runs = tmp_path_factory.mktemp("runs")
    shutil.copytree(checkpoint, runs / "other-model")
    finished(runs, "here", "policy=fixed", f"model.path={checkpoint}", *FEW)
    finished(runs, "there", "policy=layerwise", f"model.path={runs / 'other-model'}", *FEW)
    return runs


@pytest.fixture(scope="module")
def crossed(folder):
    """The square of both, made twice: the frame, and how often the model was run each time."""
    out, ran = folder / "transfer", []
    argv = ["transfer", f"{folder / 'here'}", f"{folder / 'there'}", "--at", "0.45", "--out", str(out), "-q"]
    run = model_evaluator.ModelEvaluator.run

    def counted(self, pruner):
        ran.append(pruner)
        return run(self, pruner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_evaluator.ModelEvaluator, "run", counted)
        assert main(argv) == 0
        first = len(ran)
        assert main(argv) == 0
    return pd.read_csv(out / "transfer.csv"), first, len(ran) - first


def test_every_row_answers_in_every_column_once(crossed):
    frame, first, second = crossed
    assert frame["tuned"].tolist() == ["here", "there", "fastv, untuned", "unpruned"] * 2
    assert frame["model"].nunique() == 2
    assert frame["samples"].unique().tolist() == [2 * 8]  # kinds
    assert (first, second) == (4 * 2, 0)


def test_a_column_spends_alike_and_home_is_on_the_diagonal(crossed):
    pruned = crossed[0][crossed[0]["tuned"] != "unpruned"]
    assert pruned["flops_ratio"].between(0.44, 0.45).all()
    at_home = pruned[pruned["is_own"]]
    assert at_home["tuned"].tolist() == ["here", "there"]
    assert at_home["at_home"].tolist() == [True, True]
    assert at_home["minus_own"].isna().all()


def test_a_cell_is_the_rows_pruner_at_the_columns_ratio_and_differences_are_those_of_the_scores(crossed, folder):
    frame, study = crossed[0], StudyResult.read(folder / "here")
    row, there = Tuned.of(study, 0.45, ()), Experiment.compose([f"model.path={folder / 'other-model'}", *FEW])
    pruner = replace(row.pruner, budget=Budget(flops_ratio=0.45))
    records = evaluate(there.model, prepare(there.model, there.report_task), pruner)
    (cell,) = frame[(frame["tuned"] == "here") & (frame["model"] == "other-model")].to_dict("records")
    assert (cell["trial"], cell["score"]) == (row.trial, pytest.approx(records.score))
    scores = frame[frame["model"] == "other-model"].set_index("tuned")["score"]
    assert cell["minus_own"] == pytest.approx(scores["here"] - scores["there"])
    assert cell["minus_plain"] == pytest.approx(scores["here"] - scores["fastv, untuned"])
    assert cell["minus_own:low"] <= cell["minus_own"] <= cell["minus_own:high"]


def test_all_files_are_written(crossed, folder):
    out = folder / "transfer"
    _, score, _, gap, said = (out / "transfer.md").read_text().split("\n\n")
    assert "(tuned here)" in score
    assert gap.count("|") == score.count("|")
    assert said.startswith("Of 2 cells ")
    assert (out / "transfer.tex").read_text().count(r"\begin{tabular}") == 2
    assert {file.suffix for file in out.glob("transfer.*")} == {".csv", ".md", ".tex", ".png", ".pdf", ".svg"}


def test_words_lead_to_other_models_and_budgets_and_a_dry_run_says_what_is_missing(crossed, folder, capsys, no_model):
    argv = ["transfer", str(folder / "here"), f"model.path={folder / 'other-model'}", "budget.flops_ratio=0.4,0.45"]
    assert main([*argv, "--at", "0.45", "--out", str(folder / "transfer"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "checkpoint0, shapes at 0.4; " in shown
    assert "other-model, shapes at 0.45\n" in shown
    assert "evaluations: 4 to run, 6 kept" in shown  # two more of each place, at 0.4


def test_no_study_of_a_place_no_difference_to_its_pruner(folder, tmp_path, capsys):
    argv = ["transfer", str(folder / "here"), f"model.path={folder / 'other-model'}", "--out", str(tmp_path / "out")]
    assert main([*argv, "--at", "0.45", "--against", "pdrop"]) == 0
    frame = pd.read_csv(tmp_path / "out" / "transfer.csv")
    away = frame[frame["model"] == "other-model"]
    assert away["own"].isna().all()
    assert away["minus_own"].isna().all()
    assert away[away["tuned"] == "here"]["minus_plain"].notna().all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing"], ["there is no study 'nothing'"]),
        (["here", "policy=fixed"], ["policy=fixed has no place", "the studies tuned"]),
        (["here", "budget=mean"], ["budget=mean has no place", "budget.flops_ratio=A,B"]),
        (["here", "budget.flops_ratio=much"], ["must name FLOPs ratios"]),
        (["here", "--at", "1.2"], ["1.2 is outside (0, 1]"]),
        (["here", "--at", "0.01"], ["nothing on the front of here costs at most 0.01", "the cheapest is trial"]),
        (["here", "--against", "fastw"], ["unknown method 'fastw'", "did you mean fastv"]),
        (["here", "model=embeded"], ["unknown model 'embeded'", "did you mean embedded"]),
        (["here", "model.pth=x"], ["unknown field 'model.pth'"]),
        (["here", "task.tasks.pope.path=x"], ["unknown field 'task.tasks.pope.path'", "study here"]),
        (["here", "model.path=./gone"], ["gone"]),
    ],
)
def test_mistakes_are_one_line_before_a_model_is_loaded(words, expected, folder, capsys, monkeypatch, no_model):
    monkeypatch.chdir(folder)
    refused(["transfer", *words], expected, capsys, folder)


def test_a_pruner_that_does_not_fit_is_named_with_the_place():
    place = Place(Experiment.compose(["task.per_kind=1", "report.task.per_kind=1"]))
    pruner = Experiment.compose(["policy=fixed"]).pruner()
    curve = replace(pruner, policy=GivenCurve((1.0,) * 32))
    with pytest.raises(ConfigError, match="deep does not fit shapes-s0, shapes: a curve of 32 layers for a decoder"):
        scaled("deep", curve, place, 0.5)
    assert scaled("late", replace(pruner, probe_layer=12), place, 0.5).note.startswith("floor 0.8")


def test_a_budget_that_holds_in_the_mean_is_fitted_anew():
    place = Place(Experiment.compose(["task.per_kind=1", "report.task.per_kind=1"]))
    pruner = replace(Experiment.compose(["policy=fixed"]).pruner(), budget=MeanBudget(flops_ratio=0.3, scale=0.2))
    assert scaled("mean", pruner, place, 0.45).pruner.budget == MeanBudget(flops_ratio=0.45)


def test_code_that_only_the_studys_folder_names_is_not_run(folder, tmp_path, capsys, monkeypatch, no_model):
    shutil.copytree(folder / "here", tmp_path / "foreign")
    config = yaml.safe_load((tmp_path / "foreign" / "config.yaml").read_text())
    config["report"]["task"]["_target_"] = "os.system"
    (tmp_path / "foreign" / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    refused(["transfer", "foreign", "--at", "0.45"], ["report: study foreign names os.system"], capsys, tmp_path)


def test_names_tell_rows_apart(folder, tmp_path, capsys, monkeypatch, no_model):
    shutil.copytree(folder / "here", tmp_path / "again" / "here")
    monkeypatch.chdir(tmp_path)
    refused(["transfer", str(folder / "here"), "again/here"], ["two studies are called here"], capsys, tmp_path)


def test_combinations_take_tasks_one_by_one():
    found = combinations(["task=shapes,dense", "batch_size=8", "model=embedded,embedded_dense"])
    assert len(found) == 4
    assert found[1] == ["task=shapes", "batch_size=8", "model=embedded_dense"]


def test_what_no_word_says_is_as_in_the_study(folder):
    config = StudyResult.read(folder / "there").config
    same = variant(config, [], (), "study there")
    assert same.settings.config["model"] == config["model"]
    assert same.report_task.per_kind == 2
    moved = variant(config, ["task=dense", "model.dtype=float64", "report.task.per_kind=3"], (), "study there")
    assert moved.typed.model == {**config["model"], "dtype": "float64"}
    assert (moved.report_task.name, moved.report_task.per_kind) == ("dense", 3)
    assert moved.task.per_kind == 40  # of the option, as it is


def test_studies_of_one_place_share_a_column(folder):
    here, there = (StudyResult.read(folder / name) for name in ("here", "there"))
    twin = replace(here, name="twin")
    places = places_of([here, there, twin], ["report.task.per_kind=1"], ())
    assert [[study.name for study in place.homes] for place in places] == [["here", "twin"], ["there"]]


def line(tuned, model, score, own=None, **more):
    cells = {"tuned": tuned, "within": 0.35, "trial": 1.0, "model": model, "task": "t", "at": 0.35, "own": "a at 0.35"}
    gaps = {} if own is None else {"minus_own": own, "minus_own:low": own - 0.02, "minus_own:high": own + 0.02}
    return cells | {"plain": "fastv, untuned", "is_own": False, "score": score, "note": ""} | gaps | more


FRAME = pd.DataFrame(
    [
        line("a", "x", 0.9, is_own=True),
        line("b", "x", 0.8, own=-0.1),
        line("a", "y", 0.7, own=0.01),
        line("b", "y", np.nan, note="floor 0.400", is_own=np.nan),
    ]
)


def test_the_verdict_counts_what_is_clear():
    assert transfer_page.verdict(FRAME) == (
        "Of 2 cells 1 lose to the pruner tuned there, 0 win and 1 cannot be told from it; in the median -4.5 points."
    )


def test_a_cell_says_score_difference_or_why_there_is_none():
    first = transfer_page.markdown(FRAME).split("\n\n")[1].splitlines()
    assert first[0] == "| tuned on / used on | x | y |"
    assert first[2] == "| a | 90.0 (tuned here) | 70.0; +1.0 [-1.0, 3.0] |"
    assert first[3] == "| b | 80.0; -10.0 [-12.0, -8.0] | out of reach: floor 0.400 |"


def test_the_heat_map_is_drawn_with_and_without_own_pruners(tmp_path):
    gaps = dict.fromkeys(("minus_plain", "minus_plain:low", "minus_plain:high"), 0.0)
    for frame in (FRAME, FRAME.assign(own=[None] * 4, **gaps)):
        files = transfer_page.draw(frame, tmp_path / "matrix.png", "title")
        assert [file.suffix for file in files] == [".png", ".pdf", ".svg"]
