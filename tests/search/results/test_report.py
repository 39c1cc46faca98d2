"""What is read back from a study's folder, and which points of the front are measured again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_evaluator import FakeEvaluator, finished, objective, settings

from autoprune_lab.fronts.front import NotOnFront, ParetoFront
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, BudgetError
from autoprune_lab.statistics.records import Record, Records
from policies.fixed import FixedPolicy
from search.config.errors import ConfigError
from search.results import paired_answers, pictures, report, study_result
from search.results.text_table import table
from search.study import loop
from search.study.front import from_study
from search.study.storage import StudyStorage

FRONT = ParetoFront((0.2, 0.24, 0.3, 0.34, 0.4, 0.49), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), tuple("012345"))


def folder(tmp_path, name, front, rows=()):
    place = tmp_path / name
    place.mkdir(parents=True)
    front.to_csv(place / "front.csv")
    rows_of = [(0, "complete", 0.3, 0.3, True, True), (1, "pruned", 0.7, None, False, False)]
    rows_of += [(2, "fail", None, None, False, False), (3, "complete", 0.4, 0.2, True, False)]
    known = {str(row[0]) for row in rows_of}
    points = zip(front.labels, front.costs, front.scores, strict=True)
    rows_of += [(int(n), "complete", cost, score, True, True) for n, cost, score in points if n not in known]
    columns = ["trial", "state", "flops_ratio", "score", "feasible", "front"]
    pd.DataFrame(rows_of, columns=columns).to_csv(place / "trials.csv", index=False)
    if rows:
        columns = ["arm", "trial", "bound", "flops_ratio", "score", "low", "high", "note"]
        pd.DataFrame(rows, columns=columns).to_csv(place / "report.csv", index=False)
    return place


ROWS = [
    ("unpruned", None, 1.0, 1.0, 0.9, 0.8, 1.0, ""),
    ("front", 3, 0.34, 0.34, 0.5, 0.4, 0.6, ""),
    ("front", 5, 0.49, 0.49, 0.45, 0.4, 0.5, ""),
    ("fixed", None, 0.5, 0.5, 0.3, 0.2, 0.4, ""),
    ("layerwise", None, 0.25, None, None, None, None, "unreachable, floor 0.33"),
]


@pytest.mark.parametrize(
    ("ratios", "points", "expected"),
    [
        ([0.5, 0.35, 0.25], 3, [1, 3, 5]),
        ([0.5, 0.35, 0.25], 1, [1, 3, 5]),  # the best within each ratio are never left out
        ([0.1], 3, [0, 3, 5]),
        ([], 2, [0, 5]),
        ([0.5], 99, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_chosen_points(ratios, points, expected):
    assert report.chosen(FRONT, ratios, points) == expected


def test_where_trials_are_dense_no_more_are_chosen_than_elsewhere():
    costs = (0.20, 0.21, 0.22, 0.23, 0.24, 0.40, 0.60)
    crowded = ParetoFront(costs, tuple(costs), tuple("0123456"))
    assert report.chosen(crowded, [0.6], 4) == [0, 4, 5, 6]
    assert report.chosen(crowded, [], 3) == [0, 5, 6]


def test_nothing_is_chosen_of_an_empty_front():
    assert report.chosen(ParetoFront((), (), ()), [0.5], 3) == []


def test_the_report_split_has_a_front_of_its_own(tmp_path):
    study = study_result.StudyResult.read(folder(tmp_path, "a", FRONT, ROWS))
    assert study.front == FRONT
    assert (study.report_front.costs, study.report_front.labels) == ((0.34,), ("3",))
    assert study.report_points == [(0.34, 0.5, 0.4, 0.6), (0.49, 0.45, 0.4, 0.5)]
    assert study.arms == {"fixed": [(0.5, 0.3, 0.2, 0.4)]}
    assert study.unpruned == {"unpruned": 0.9}


def test_what_is_not_on_the_front_is_counted_by_its_reason(tmp_path):
    study = study_result.StudyResult.read(folder(tmp_path, "a", FRONT))
    assert study.front.left_out == NotOnFront(dominated=1, infeasible=1, no_result=1)
    assert "1 dominated, 1 over a bound, 1 without a result" in report.trials_table(study.trials.assign(seconds=1.0))


def test_studies_are_found_below_a_folder(tmp_path):
    for name in ("b", "a", "a.old-1"):
        folder(tmp_path, name, FRONT)
    (tmp_path / "other").mkdir()
    assert [study.name for study in study_result.StudyResult.find(tmp_path)] == ["a", "b"]


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"not the folder of a finished study: it has no trials.csv"):
        study_result.StudyResult.read(tmp_path)
    with pytest.raises(ConfigError, match="no finished study below"):
        study_result.StudyResult.find(tmp_path)


def test_pictures_are_drawn(tmp_path):
    place = folder(tmp_path, "a", FRONT, ROWS)
    pictures.draw(study_result.StudyResult.read(place))
    assert {"front.png", "report.png"} <= set(study_result.artifacts(place))
    assert (place / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_the_report_table_says_why_an_arm_is_missing():
    columns = ["arm", "trial", "bound", "flops_ratio", "score", "low", "high", "note"]
    lines = report.report_table(pd.DataFrame(ROWS, columns=columns)).splitlines()
    assert lines[3].split()[:2] == ["trial", "3"]
    assert "[0.400, 0.600]" in lines[3]
    assert lines[-1].endswith("unreachable, floor 0.33")


def test_every_answer_of_the_report_is_kept_and_arms_are_paired_with_their_reference(tmp_path):
    study = finished(tmp_path, "s", "policy=fixed", "report.ratios=[0.5,0.35]")
    samples = study.samples
    assert {"arm", "trial", "bound", "id", "kind", "score", "complexity", "flops", "unpruned_flops"} == set(samples)
    assert len(samples) == 60 * study.report["score"].notna().sum()
    best = {ratio: study.front.labels[study.front.index_at(ratio)] for ratio in (0.5, 0.35)}
    unpruned = samples[samples["arm"] == "unpruned"].set_index("id")["score"]
    for row in study.report.dropna(subset=["score"]).to_dict("records"):
        is_near = np.isclose(samples["bound"], row["bound"], rtol=0, atol=1e-9)  # one went through a CSV
        mine = samples[(samples["arm"] == row["arm"]) & is_near].set_index("id")
        assert mine["flops"].sum() / mine["unpruned_flops"].sum() == pytest.approx(row["flops_ratio"], abs=1e-6)
        assert mine.groupby("kind")["score"].mean().mean() == pytest.approx(row["score"])
        if row["arm"] == "front":
            assert row["reference"] == "unpruned"
            assert row["difference"] == pytest.approx((mine["score"] - unpruned).groupby(mine["kind"]).mean().mean())
        elif row["arm"] != "unpruned":
            assert row["reference"] == f"trial {best[row['bound']]}"
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    table_of = report.report_table(study.report)
    assert "minus" in table_of
    assert "-0.000" not in table_of
    assert "as unpruned" in table_of.splitlines()[0]


def test_a_report_says_how_many_answers_are_the_unpruned_model_s(tmp_path):
    class Loyal(Short):
        def run(self, pruner):
            if pruner is None:
                return Records((record("one", 1.0), record("two", 0.0)), 1.0)
            said = "" if pruner.budget.flops_ratio == 0.5 else "other"
            return Records((record("one", 1.0), replace(record("two", 0.0), prediction=said)), 1.0)

    given = settings(tmp_path, "report.ratios=[0.5,0.4]")
    given.out.mkdir()
    rows = report.evaluate_report(
        given.out, given.typed.report, ParetoFront(), {}, {"fixed": Pruner(FixedPolicy())}, Loyal
    )
    assert rows["loyalty"].tolist() == [1.0, 1.0, 0.5]
    assert rows["no_op"].tolist() == [False, True, False]
    assert rows["loyalty_low"].tolist()[2] < 0.5 < rows["loyalty_high"].tolist()[2]
    assert [line.split()[-1] for line in report.report_table(rows).splitlines()[3:]] == ["no-op", "0.500"]


def test_an_arm_without_a_reference_is_left_alone(tmp_path):
    rows = pd.DataFrame(
        [("unpruned", None, 1.0, 0.9), ("fixed", None, 0.1, 0.5)], columns=["arm", "trial", "bound", "score"]
    )
    assert paired_answers.references(rows, FRONT) == [None, None]  # trial 5 was not measured, nothing costs 0.1


def test_arms_on_other_samples_are_refused():
    left, right = (pd.Series([1.0, 0.0], index=ids) for ids in (["a", "b"], ["a", "c"]))
    kinds = pd.DataFrame({"id": ["a", "b"], "kind": ["k", "k"]})
    with pytest.raises(ConfigError, match=r"same report samples.*one report.task"):
        paired_answers.apart(kinds, [left], [right])


def test_a_sample_that_was_answered_twice_is_not_paired():
    once, twice = (pd.Series([1.0] * len(ids), index=ids) for ids in (["a", "b"], ["a", "b", "b"]))
    kinds = pd.DataFrame({"id": ["a", "b"], "kind": ["k", "k"]})
    assert paired_answers.apart(kinds, [once], [once]).value == 0
    for left, right in ((once, twice), (twice, once), (twice, twice)):
        with pytest.raises(ConfigError, match="sample 'b' was answered twice"):
            paired_answers.apart(kinds, [left], [right])


def test_the_report_is_read_again_only_while_nothing_changed(tmp_path):
    finished(tmp_path, "s", "policy=fixed")
    words = ("study=s", "policy=fixed", "search.n_trials=8")
    front = from_study(loop.existing(StudyStorage.of(settings(tmp_path, *words).typed)))

    def refuse():
        raise AssertionError("evaluated again")

    given = settings(tmp_path, *words)
    again = report.evaluate_report(given.out, given.typed.report, front, {}, {}, refuse)
    assert {"unpruned", "front", "fixed", "layerwise", "random", "uniform"} == set(again["arm"])
    with pytest.raises(AssertionError, match="evaluated again"):
        report.evaluate_report(given.out, replace(given.typed.report, points=2), front, {}, {}, refuse)


def test_a_table_is_aligned():
    lines = table(["name", "value"], [("a", 0.5), ("longer", None), ("b", True)]).splitlines()
    assert lines == ["name    value", "------  -----", "a       0.500", "longer      -", "b         yes"]


class Short:
    """An evaluator whose prompts no budget below 0.4 suits."""

    def run(self, pruner):
        if pruner is not None and pruner.budget.flops_ratio < 0.4:
            raise BudgetError("budget is unreachable: text and layers alone cost 0.4; raise the bound", missing=0.1)
        return Records((record("one", 1.0), record("two", 0.0)), 1.0)


def record(name, score):
    return Record(name, "a", "", (), score, None, 144, 12, 70.0, 50, 100, 0, 25, 50, 69.0, (70, 70))


def test_what_cannot_be_reached_on_the_report_split_is_said_not_raised(tmp_path):
    given = settings(tmp_path, "report.ratios=[0.5,0.35]")
    given.out.mkdir()
    front, fixed = ParetoFront((0.3, 0.45), (0.5, 0.6), ("1", "2")), Pruner(FixedPolicy())
    tuned = {1: replace(fixed, budget=Budget(0.3)), 2: replace(fixed, budget=Budget(0.45))}
    rows = report.evaluate_report(given.out, given.typed.report, front, tuned, {"fixed": fixed}, Short)
    assert rows["arm"].tolist() == ["unpruned", "front", "front", "fixed", "fixed"]
    assert rows["score"].notna().tolist() == [True, False, True, True, False]
    assert rows["note"].tolist()[1] == "unreachable, floor 0.4"
    assert "unreachable" in report.report_table(rows)
    front.to_csv(given.out / "front.csv")
    row = {"trial": 1, "state": "complete", "flops_ratio": 0.3, "score": 0.5, "feasible": True, "front": True}
    pd.DataFrame([row, row | {"trial": 2, "flops_ratio": 0.45, "score": 0.6}]).to_csv(given.out / "trials.csv")
    assert study_result.StudyResult.read(given.out).report_front.labels == ("2",)


def test_the_files_of_trials_that_have_left_the_front_go(tmp_path):
    """And only theirs: what else is in the folder is the user's."""
    given = settings(tmp_path, "search.n_trials=8")
    study = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    loop.run(study, objective(given, FakeEvaluator()), given)
    front = from_study(study)
    (given.out / "tuned").mkdir()
    for name in ("trial-99.yaml", f"trial-{front.labels[0]}.yaml", "mine.yaml"):
        (given.out / "tuned" / name).write_text("old")
    report.tuned_pruners(study, given, front)
    files = {file.name: file.read_text() for file in (given.out / "tuned").iterdir()}
    assert set(files) == {"mine.yaml", *(f"trial-{label}.yaml" for label in front.labels)}
    assert [name for name, text in files.items() if text == "old"] == ["mine.yaml"]
