"""What is read back from a study's folder, and which points of the front are measured again."""

from dataclasses import replace

import pandas as pd
import pytest
from fake_bench import settings

from autoprune_lab.budget import Budget, BudgetError
from autoprune_lab.pareto import ParetoFront
from autoprune_lab.pruner import Pruner
from autoprune_lab.records import Record, Records
from policies.fixed import FixedPolicy
from search import report, results
from search.config import ConfigError
from search.table import table

FRONT = ParetoFront((0.2, 0.24, 0.3, 0.34, 0.4, 0.49), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), tuple("012345"))


def folder(tmp_path, name, front, rows=()):
    place = tmp_path / name
    place.mkdir(parents=True)
    front.to_csv(place / "front.csv")
    data = {"trial": [0], "flops_ratio": [0.3], "score": [0.3], "feasible": [True], "front": [True]}
    pd.DataFrame(data).to_csv(place / "trials.csv", index=False)
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
        ([0.1], 3, [0, 2, 5]),
        ([], 2, [0, 5]),
        ([0.5], 99, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_chosen_points(ratios, points, expected):
    assert report.chosen(FRONT, ratios, points) == expected


def test_nothing_is_chosen_of_an_empty_front():
    assert report.chosen(ParetoFront((), (), ()), [0.5], 3) == []


def test_the_report_split_has_a_front_of_its_own(tmp_path):
    study = results.StudyResult.read(folder(tmp_path, "a", FRONT, ROWS))
    assert study.front == FRONT
    assert (study.report_front.costs, study.report_front.labels) == ((0.34,), ("3",))
    assert study.arms == {"unpruned": [(1.0, 0.9)], "fixed": [(0.5, 0.3)]}


def test_the_comparison_has_one_row_a_study(tmp_path):
    low = ParetoFront((0.3,), (0.2,), ("7",))
    studies = [
        results.StudyResult.read(folder(tmp_path, name, front, ROWS)) for name, front in (("a", FRONT), ("b", low))
    ]
    frame = results.comparison(studies, [0.5, 0.25]).set_index("study")
    assert frame.loc["b", "hypervolume"] == pytest.approx(0.7 * 0.2)
    assert frame.loc["a", "hypervolume"] == pytest.approx(FRONT.hypervolume())
    assert frame.loc["a", ["score@0.5", "score@0.25"]].tolist() == [0.6, 0.2]
    assert pd.isna(frame.loc["b", "score@0.25"])
    on_report = results.comparison(studies, [0.5], report=True).set_index("study")
    assert on_report.loc["a", "score@0.5"] == 0.5
    names = [text.get_text() for text in results.overlay(studies).axes[0].get_legend().get_texts()]
    assert names == ["a", "b"]


def test_studies_are_found_below_a_folder(tmp_path):
    for name in ("b", "a", "a.old-1"):
        folder(tmp_path, name, FRONT)
    (tmp_path / "other").mkdir()
    assert [study.name for study in results.StudyResult.find(tmp_path)] == ["a", "b"]


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"not the folder of a finished study: it has no trials.csv"):
        results.StudyResult.read(tmp_path)
    with pytest.raises(ConfigError, match="no finished study below"):
        results.StudyResult.find(tmp_path)


def test_pictures_are_drawn(tmp_path):
    place = folder(tmp_path, "a", FRONT, ROWS)
    results.draw(results.StudyResult.read(place))
    assert {"front.png", "report.png"} <= set(results.artifacts(place))
    assert (place / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_the_report_table_says_why_an_arm_is_missing():
    columns = ["arm", "trial", "bound", "flops_ratio", "score", "low", "high", "note"]
    lines = report.report_table(pd.DataFrame(ROWS, columns=columns)).splitlines()
    assert lines[3].split()[:2] == ["trial", "3"]
    assert "[0.400, 0.600]" in lines[3]
    assert lines[-1].endswith("unreachable, floor 0.33")


def test_a_table_is_aligned():
    lines = table(["name", "value"], [("a", 0.5), ("longer", None), ("b", True)]).splitlines()
    assert lines == ["name    value", "------  -----", "a       0.500", "longer      -", "b         yes"]


class Short:
    """A bench whose prompts no budget below 0.4 suits."""

    def run(self, pruner):
        if pruner is not None and pruner.budget.flops_ratio < 0.4:
            raise BudgetError("budget is unreachable: text and layers alone cost 0.4; raise the bound", missing=0.1)
        return Records((record("a", 1.0), record("a", 0.0)), 1.0)


def record(kind, score):
    return Record("id", kind, "", (), score, None, 144, 12, 70.0, 50, 100, 0, 25, 50, 69.0, (70, 70))


def test_what_cannot_be_reached_on_the_report_split_is_said_not_raised(tmp_path):
    given = settings(tmp_path, "report.ratios=[0.5,0.3]")
    given.out.mkdir()
    front, fixed = ParetoFront((0.3, 0.45), (0.5, 0.6), ("1", "2")), Pruner(FixedPolicy())
    tuned = {1: replace(fixed, budget=Budget(0.3)), 2: replace(fixed, budget=Budget(0.45))}
    rows = report.evaluate_report(given, front, tuned, {"fixed": fixed}, Short)
    assert rows["arm"].tolist() == ["unpruned", "front", "front", "fixed", "fixed"]
    assert rows["score"].notna().tolist() == [True, False, True, True, False]
    assert rows["note"].tolist()[1] == "unreachable, floor 0.4"
    assert "unreachable" in report.report_table(rows)
    front.to_csv(given.out / "front.csv")
    pd.DataFrame({"trial": [1]}).to_csv(given.out / "trials.csv")
    assert results.StudyResult.read(given.out).report_front.labels == ("2",)
