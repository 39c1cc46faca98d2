"""What tables and lines say, word for word."""

import math

import optuna
import pandas as pd
import pytest

from autoprune_lab.fronts.front import NotOnFront
from search.config.identity import difference
from search.methods.page import latex, markdown
from search.results.text_table import interval, latex_table, table
from search.results.trial_table import left_out
from search.study.ledger import Ledger
from search.study.progress import line


def test_of_settings_that_differ_two_are_named_and_the_others_counted():
    then, now = {"a": 1, "b": "x", "c": None, "e": 5}, {"a": 1, "b": "y", "d": 2.5, "e": 6}
    assert difference(then, then) == ""
    assert difference({"a": 1, "b": None}, {"a": 1}) == ""
    assert difference(then, {**then, "b": "y"}) == "b was 'x', now 'y'"
    assert difference(then, {**then, "b": "y", "d": 0}) == "b was 'x', now 'y'; d was None, now 0"
    assert difference(then, now) == "b was 'x', now 'y'; d was None, now 2.5 and 1 more"


def test_a_table_s_cells():
    lines = table(["a", "bb"], [(1.0, 2), (True, False), (None, math.nan), ("long", 1.23456)]).splitlines()
    assert lines == ["a         bb", "-----  -----", "1.000      2", "yes", "-          -", "long   1.235"]
    assert interval(0.12345, 1) == "[0.123, 1.000]"


@pytest.mark.parametrize(
    ("first", "seconds", "expected"),
    [
        (0, 60.0, ", 2 trials/min, 01:00 left"),
        (1, 1.0, ", 60 trials/min, 00:02 left"),
        (2, 60.0, ""),  # none has ended since
        (0, 0.0, ""),
    ],
)
def test_a_line_says_how_far_the_search_is(first, seconds, expected):
    study = optuna.create_study(directions=["minimize", "maximize"])
    assert line(Ledger(study).look(), 4, 0, 1.0) == "trial 0/4, nothing within the bound yet"
    for cost, score in ((0.5, 0.4), (0.75, 0.8)):
        trial = study.ask()
        trial.set_constraint("bound", -0.1)
        study.tell(trial, [cost, score])
    found = "trial 2/4, best score 0.800 at 0.750, hypervolume 0.3000"
    assert line(Ledger(study).look(), 4, first, seconds) == found + expected
    assert line(Ledger(study).look(), 2, 0, 60.0) == found.replace("/4", "/2") + ", 2 trials/min"


def test_what_became_of_trials_is_counted_from_their_table():
    rows = [
        ("complete", 0.3, 0.5, True, True),
        ("complete", 0.4, 0.4, True, False),
        ("complete", 0.6, 0.9, False, False),
        ("pruned", 0.7, None, False, False),
        ("pruned", 0.2, None, False, False),
        ("complete", 0.2, math.nan, True, False),
        ("fail", None, None, False, False),
    ]
    frame = pd.DataFrame(rows, columns=["state", "flops_ratio", "score", "feasible", "front"])
    assert left_out(frame) == NotOnFront(dominated=1, infeasible=3, no_result=2)
    assert left_out(frame.assign(cost=math.inf)) == NotOnFront(0, 3, 4)  # where there is a cost, it is what counts


def figures(name, *values):
    return dict(zip((name, f"{name}:low", f"{name}:high"), values, strict=True))


ARM = {"flops_ratio": 0.25, "paper_ratio": 0.3, "scoring_ratio": 0.0123, "entering": 64.0, "leaving": 60.5}
TABLE = pd.DataFrame(
    [
        {
            **{"method": "fastv", "tokens": 64.0, **ARM, "time_ratio": 0.5, "note": ""},
            **figures("score", 0.5, 0.4, 0.6),
            **figures("relative", 0.625, 0.5, 0.75),
            **figures("score/where", 0.25, 0.0, 0.5),
        },
        {"method": "fastv", "tokens": 20.0, "note": "floor 0.189"},
    ]
)


def test_a_table_of_methods_in_markdown():
    costs, scores = markdown(TABLE).split("\n\n")
    assert costs.splitlines() == [
        "| method | tokens of 576 | FLOPs ratio | papers' ratio | scoring | entering | leaving | time ratio | score "
        "| % of unpruned |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| fastv | 64 | 0.250 | 0.300 | 0.0123 | 64.0 | 60.5 | 0.500 | 50.0 [40.0, 60.0] | 62.5 [50.0, 75.0] |",
        "| fastv | 20 | out of reach: floor 0.189 |  |  |  |  |  |  |  |",
    ]
    assert scores.splitlines() == [
        "| method | tokens of 576 | where |",
        "| --- | --- | --- |",
        "| fastv | 64 | 25.0 [0.0, 50.0] |",
    ]


def test_a_table_of_methods_says_which_arm_is_a_no_op():
    loyal = TABLE.assign(no_op=[True, None], ece=0.125, brier=0.25, aurc=math.nan, **{"official/MME": 1234.5})
    loyal = loyal.assign(**{"loyalty": 1.0, "loyalty:low": 1.0, "loyalty:high": 1.0})
    grids = markdown(loyal).split("\n\n")
    assert all(grid.splitlines()[2].startswith("| fastv (no-op) | 64 |") for grid in grids)
    assert grids[2].splitlines() == [
        "| method | tokens of 576 | answers as unpruned | ECE | Brier | AURC | MME |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| fastv (no-op) | 64 | 100.0 [100.0, 100.0] | 0.125 | 0.250 | - | 1234.500 |",
    ]


def test_a_table_of_methods_has_groups_and_selection_s_share_where_they_were_measured():
    unpruned = {**TABLE.iloc[0], "method": "none", "tokens": math.nan, "selection_share": 0.0}
    arm = {**TABLE.iloc[0], "selection_share": 0.125, "n_a": 40.0, "n_b": 0.0}
    arm |= figures("score_a", 0.5, 0.25, 0.75) | figures("score_b", math.nan, math.nan, math.nan)
    frame = pd.DataFrame([unpruned, arm]).assign(ece=0.1, brier=0.2, aurc=0.3, **figures("loyalty", 1.0, 1.0, 1.0))
    costs, _, trust = (grid.splitlines() for grid in markdown(frame).split("\n\n"))
    assert "| time ratio | selection's share | score |" in costs[0]
    assert "| 0.500 | 0.125 | 50.0" in costs[3]
    assert "| answers as unpruned | group A (hard) | group B (easy) | ECE |" in trust[0]
    assert "| 100.0 [100.0, 100.0] | - | - | 0.100 |" in trust[2]
    assert "| 100.0 [100.0, 100.0] | 50.0 [25.0, 75.0] of 40 | - of 0 | 0.100 |" in trust[3]


def test_a_table_of_methods_in_latex():
    costs, scores = latex(TABLE).split("\n\n")
    assert scores.splitlines() == [
        r"\begin{tabular}{llr}",
        r"\toprule",
        r"method & tokens of 576 & where \\",
        r"\midrule",
        r"fastv & 64 & 25.0 {[}0.0, 50.0] \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"\% of unpruned" in costs


def test_words_of_a_latex_table_are_escaped():
    assert r"a\_b \& 50 \% {[}c\textbackslash{}] & - \\" in latex_table(["x", "y"], [("a_b & 50 % [c\\]", None)])
