"""Several studies and several seeds set against each other: tables, tests, pictures, the command."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_evaluator import finished
from omegaconf import OmegaConf

from autoprune_lab.fronts.front import ParetoFront
from search.cli import main
from search.config.errors import ConfigError
from search.results import comparison
from search.results.paired_answers import Arm, scores_of
from search.results.pictures import overlay
from search.results.seeds import Contender, contenders
from search.results.study_result import StudyResult


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two policies under two seeds each, and one alone."""
    folder = tmp_path_factory.mktemp("runs")
    few = (
        "search=tpe",
        "report.ratios=[0.5,0.35]",
        *(f"~report.arms.{arm}" for arm in ("random", "uniform", "layerwise")),
    )
    for seed in (1, 0):
        finished(folder, f"fixed-s{seed}", "policy=fixed", f"seed={seed}", *few)
        finished(folder, f"curve-s{seed}", f"seed={seed}", *few)
    finished(folder, "alone", "policy=fixed", "seed=5", *few)
    return folder


@pytest.fixture(scope="module")
def compared(runs):
    return contenders(StudyResult.find(runs))


def test_seeds_of_one_name_are_one_contender_in_order_of_their_seed(compared):
    assert [(one.name, one.seeds) for one in compared] == [("alone", (None,)), ("curve", (0, 1)), ("fixed", (0, 1))]
    assert [study.name for study in compared[1].studies] == ["curve-s0", "curve-s1"]


def test_a_single_seed_stays_a_study_and_the_same_folder_counts_once(runs):
    one = StudyResult.read(runs / "fixed-s0")
    assert [(c.name, c.seeds) for c in contenders([one, one])] == [("fixed-s0", (None,))]


def test_seeds_that_differ_in_more_are_refused_by_the_setting(runs, tmp_path):
    for seed, layers in ((0, 1), (1, 2)):
        place = tmp_path / f"x-s{seed}"
        place.mkdir()
        for name in ("trials.csv", "front.csv"):
            (place / name).write_text((runs / "alone" / name).read_text())
        (place / "config.yaml").write_text(f"seed: {seed}\npruner: {{probe_layer: {layers}}}\n")
    studies = StudyResult.find(tmp_path)
    with pytest.raises(ConfigError, match=r"x-s0 and x-s1 .* pruner.probe_layer is 1 and 2: rename"):
        contenders(studies)


def test_fronts_of_different_costs_are_not_compared(runs, tmp_path):
    for name in ("trials.csv", "front.csv"):
        (tmp_path / name).write_text((runs / "alone" / name).read_text())
    (tmp_path / "config.yaml").write_text("search: {cost: latency}\n")
    other = StudyResult.read(tmp_path)
    assert other.bounds == []
    with pytest.raises(ConfigError, match=r"alone counts flops_ratio, .* latency: they cannot be compared"):
        contenders([StudyResult.read(runs / "alone"), other])


def test_the_summary_gives_medians_over_seeds_and_counts(compared):
    frame = comparison.summary(compared, [0.5, 0.35]).set_index("study")
    fronts = [study.front for study in compared[2].studies]
    assert frame.loc["fixed", "trials"] == 16
    areas = sorted(front.hypervolume() for front in fronts)
    assert frame.loc["fixed", ["lowest", "hypervolume", "highest"]].tolist() == [areas[0], np.median(areas), areas[1]]
    assert frame.loc["fixed", "score@0.5"] == pytest.approx(np.median([front.score_at(0.5) for front in fronts]))
    assert frame.loc["fixed", "over_bound"] == sum(front.left_out.infeasible for front in fronts) > 0


def contender(name, heights, costs=None):
    """One front of one point a seed; without `costs`, each at half of the unpruned model's."""
    costs = costs or [0.5] * len(heights)
    fronts = [ParetoFront((cost,), (height,), ("0",)) for cost, height in zip(costs, heights, strict=True)]
    none = pd.DataFrame()
    studies = [StudyResult(f"{name}-s{i}", None, front, none, none) for i, front in enumerate(fronts)]
    return Contender(name, tuple(range(len(heights))), tuple(studies))


def test_one_seed_that_went_wrong_moves_no_median():
    (row,) = comparison.summary([contender("a", [0.9, 0.8, 0.2])], [0.5, 0.4]).to_dict("records")
    assert [row["lowest"], row["hypervolume"], row["highest"]] == pytest.approx([0.1, 0.4, 0.45])
    assert row["score@0.5"] == 0.8
    assert math.isnan(row["score@0.4"])
    (row,) = comparison.summary([contender("a", [0.9, 0.8, 0.2, 0.1], [0.5, 0.5, 0.5, 0.6])], [0.5]).to_dict("records")
    assert row["score@0.5"] == 0.8  # the seed that has nothing so cheap does not count


def test_of_a_report_the_point_that_cost_most_within_the_ratio_on_the_tune_split_counts():
    """Its bound is that cost; another arm, a dearer point, or one without a score does not count."""
    rows = [("front", 3, 0.3, 0.9), ("front", 7, 0.5, 0.7), ("front", 8, 0.5001, 1.0), ("fixed", None, 0.45, 0.8)]
    report = pd.DataFrame([*rows, ("front", 9, 0.49, math.nan)], columns=["arm", "trial", "bound", "score"])
    report["flops_ratio"] = report["bound"]
    study = StudyResult("a", Path("nowhere"), ParetoFront(), pd.DataFrame(), report)
    frame = comparison.summary([Contender("a", (None,), (study,))], [0.5, 0.4, 0.2], report=True)
    (row,) = frame.to_dict("records")
    assert (row["score@0.5"], row["score@0.4"], row["measured"]) == (0.7, 0.9, 3)
    assert math.isnan(row["score@0.2"])


def seeds_of(folder, *texts):
    """Studies x-s0, x-s1, ... without trials, each of its own config."""
    for i, text in enumerate(texts):
        place = folder / f"x-s{i}"
        place.mkdir()
        (place / "trials.csv").write_text("trial,state,flops_ratio,score,feasible,front\n")
        (place / "front.csv").write_text("cost,score,label\n")
        (place / "config.yaml").write_text(text)
    return StudyResult.find(folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seed: 0", "seed: 1"),
        ("search: {sampler: {seed: 0}}", "search: {sampler: {seed: 1}}"),
        ("search: {workers: 1}", "search: {workers: 8}"),
        ("folder: a", "folder: b"),
    ],
)
def test_seeds_may_differ_in_what_changes_no_result(one, other, tmp_path):
    (found,) = contenders(seeds_of(tmp_path, one, other))
    assert (found.name, found.seeds) == ("x", (0, 1))


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ("search: {n_trials: 8}", "search: {n_trials: 9}", "search.n_trials is 8 and 9"),
        ("report: {points: 8}", "report: {points: 9}", "report.points is 8 and 9"),
        ("search: {sampler: {n: 8}}", "search: {sampler: {n: 9}}", "search.sampler.n is 8 and 9"),
        ("a: 1", "b: 1", "a is 1 and None"),
    ],
)
def test_seeds_that_differ_in_how_they_were_searched_or_measured_are_refused(one, other, path, tmp_path):
    with pytest.raises(ConfigError, match=rf"x-s0 and x-s1 .* {path}: rename"):
        contenders(seeds_of(tmp_path, one, other))


def test_names_say_stem_and_seed_and_same_names_their_folders(tmp_path):
    front = ParetoFront()

    def at(folder, name):
        return StudyResult(name, tmp_path / folder / name, front, pd.DataFrame(), pd.DataFrame())

    studies = [at("a", "b_s10"), at("a", "one"), at("b", "one"), at("a", "b-s2"), at("a", "s3")]
    found = [(c.name, c.seeds) for c in contenders(studies)]
    places = [str(tmp_path / "a" / "one"), str(tmp_path / "b" / "one")]
    assert found == [("b", (2, 10)), (places[0], (None,)), (places[1], (None,)), ("s3", (None,))]
    twice = [at("a", "x-s1"), at("b", "x-s1"), at("a", "x-s2")]
    assert [c.seeds for c in contenders(twice)] == [(None,)] * 3


def test_on_the_report_split_the_tune_split_chooses(compared, runs):
    """The trial that was best within the ratio on the tune split counts, not the one that turns out best."""
    study = StudyResult.read(runs / "alone")
    trial = int(study.front.labels[study.front.index_at(0.5)])
    expected = study.report.set_index("trial").loc[trial, "score"]
    frame = comparison.summary(compared, [0.5], report=True).set_index("study")
    assert frame.loc["alone", "score@0.5"] == pytest.approx(expected)
    assert frame.loc["alone", "measured"] == len(study.report_points)


def test_shares_are_means_over_pairs_of_seeds(compared):
    frame = comparison.dominated_shares(compared)
    pairs = [a.dominated_by(b) for a in compared[1].fronts(False) for b in compared[2].fronts(False)]
    assert frame.loc["curve", "fixed"] == pytest.approx(np.mean(pairs))
    assert math.isnan(frame.loc["curve", "curve"])


def test_differences_at_equal_cost_are_paired_by_sample(compared):
    frame = comparison.differences(compared, [0.5, 0.2]).set_index(["left", "right", "ratio"])
    row = frame.loc[("curve", "fixed", 0.5)]
    sides = []
    for one, trials in ((compared[1], row["left_trials"]), (compared[2], row["right_trials"])):
        for study, trial in zip(one.studies, map(int, trials.split()), strict=True):
            assert str(trial) == study.front.labels[study.front.index_at(0.5)]
            bound = study.front.costs[study.front.labels.index(str(trial))]
            sides.append(scores_of(study.samples, Arm("front", trial, bound)))
    gap = (sides[0] + sides[1] - sides[2] - sides[3]) / 2
    assert row["difference"] == pytest.approx(gap.groupby([name[-1] in "02468" for name in gap.index]).mean().mean())
    assert row["low"] <= row["difference"] <= row["high"]
    assert frame.loc[("curve", "fixed", 0.2), ["left_trials", "difference"]].isna().tolist() == [False, True]


def test_hypervolumes_are_tested_seed_by_seed():
    better, worse = contender("a", [0.9, 0.8, 0.7, 0.91, 0.83]), contender("b", [0.6, 0.55, 0.35, 0.5, 0.03])
    (row,) = comparison.seed_tests([better, worse]).to_dict("records")
    assert (row["seeds"], row["p"], row["least_p"]) == (5, 0.0625, 0.0625)
    assert row["median_difference"] == pytest.approx(0.175)
    assert comparison.seed_tests([better, contender("a2", [0.9, 0.8, 0.7, 0.91, 0.83])])["p"].tolist() == [1.0]
    assert comparison.seed_tests([better, contender("one", [0.5])]).empty
    (row,) = comparison.seed_tests([better, contender("two", [0.5, 0.6])]).to_dict("records")
    assert (row["seeds"], row["least_p"], row["median_difference"]) == (2, 0.5, pytest.approx(0.15))


def test_importances_stand_side_by_side(compared):
    frame = comparison.importances(compared)
    assert list(frame.columns) == ["alone", "curve", "fixed"]
    assert frame.sum().tolist() == pytest.approx([1, 1, 1])
    assert frame.max(axis=1).is_monotonic_decreasing
    means = pd.concat([study.importance.set_index("parameter")["score"] for study in compared[1].studies], axis=1)
    assert frame["curve"].dropna().to_dict() == pytest.approx(means.mean(axis=1).to_dict())
    assert math.isnan(frame.loc["pruner.policy.layer", "curve"])


def test_the_picture_has_a_panel_a_split_names_and_the_bound(compared):
    left, right = overlay(compared).axes
    assert (left.get_title(), right.get_title()) == ("tune split", "report split")
    named = [{text.get_text().split(":")[0] for text in axes.texts} for axes in (left, right)]
    assert named == [
        {"alone", "curve", "fixed", "bound 0.5"},
        {"alone", "curve", "fixed", "arm fixed", "bound 0.5", "unpruned 100.0"},
    ]
    assert len(left.collections) == 2  # the bands


def test_on_the_report_split_the_measured_points_of_all_seeds_stand_alone(compared):
    (axes,) = overlay(compared, splits=[True]).axes
    drawn = {str(line.get_label()): line for line in axes.lines}
    for one in compared:
        assert drawn[one.name].get_linestyle() == "None"
        points = [point[:2] for study in one.studies for point in study.report_points]
        assert drawn[one.name].get_xydata().tolist() == [list(point) for point in points]


def test_the_command_prints_every_table_and_writes_the_picture(runs, here, capsys):
    folders = [str(runs / name) for name in ("alone", "fixed-s0", "fixed-s1")]
    assert main(["compare", *folders, "--at", "0.5", "--out", "a/b.png"]) == 0
    shown = capsys.readouterr().out
    for words in ("tune split", "report split", "hypervolume", "score@0.5", "column's front dominates", "PED-ANOVA"):
        assert words in shown
    assert "1 tests; p-values are not corrected" in shown
    assert (here / "a" / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_a_study_without_a_report_is_compared_on_the_tune_split_and_that_is_said(runs, here, capsys):
    place = here / "bare"
    place.mkdir()
    for name in ("trials.csv", "front.csv"):
        (place / name).write_text((runs / "alone" / name).read_text())
    OmegaConf.save({"seed": 0}, place / "config.yaml")
    assert main(["compare", str(runs / "alone"), str(place)]) == 0
    shown = capsys.readouterr().out
    assert "not measured on the report split: bare" in shown
    on_report = shown.partition("report split\n")[2].partition("not measured")[0]
    assert "alone" in on_report  # the others are compared there all the same
    assert "bare" not in on_report
    assert main(["compare", str(place), "--split", "report"]) == 2
    assert "bare was not measured on the report split" in capsys.readouterr().err


def test_what_is_no_study_is_left_out_and_named_in_a_line(runs, here, capsys):
    (here / "cache").mkdir()
    (here / "mlflow.db").touch()
    assert main(["compare", "cache", str(runs / "alone"), "mlflow.db", "--split", "tune"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "autoprune: no finished study, left out: cache, mlflow.db\n"
    assert "alone" in shown.out
    assert (here / "fronts.png").is_file()
    for words, told in (
        (["cache", "mlflow.db"], "cache is not"),
        (["runs/typo", str(runs / "alone")], "runs/typo is not"),
    ):
        assert main(["compare", *words]) == 2
        assert f"{told} the folder of a finished study" in capsys.readouterr().err
