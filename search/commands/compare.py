"""`autoprune compare`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from search.results.seeds import Contender

SUMMARY = "set the fronts of several studies against each other, in tables and one picture"
DESCRIPTION = """\
Overlay the Pareto fronts of several studies, tune and report split apart, and print for each the hypervolume (the
area under the front, between score 0 and FLOPs ratio 1) and the best score within fixed FLOPs ratios; for each pair
the share of points that the other front dominates, and the score difference at those ratios on the same report
samples (paired bootstrap); and which parameters mattered.

Folders named NAME-s0, NAME-s1, ... are seeds of one study: the picture shows their median attainment surface in a
band from the best to the worst, and two such studies get a paired Wilcoxon test on their hypervolumes."""
EXAMPLES = """\
  autoprune compare runs/logistic_adaptive runs/fixed
  autoprune compare runs/logistic-s* runs/fixed-s* --out fronts.png
  autoprune compare runs/* --split report --at 0.5 0.25"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies, the ratios to compare at, the splits and the picture."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument("--at", nargs="+", type=float, default=[0.5, 0.35, 0.25], metavar="RATIO")
    parser.add_argument("--out", type=Path, default=Path("fronts.png"), metavar="PNG", help="the picture")
    parser.add_argument("--split", choices=["tune", "report", "both"], default="both", help="which scores to compare")


def run(given: argparse.Namespace) -> int:
    """Print the tables, one split after the other, and draw the picture."""
    from search.config.early_checks import check_file
    from search.config.errors import ConfigError
    from search.results.folder import check_finished

    for folder in given.studies:
        check_finished(folder)
    check_file(given.out, "--out")
    from search.results.pictures import SPLITS, overlay
    from search.results.seeds import contenders
    from search.results.study_result import StudyResult

    studies = [StudyResult.read(folder) for folder in given.studies]
    unreported = [study.name for study in studies if study.report.empty]
    if given.split == "report" and unreported:
        raise ConfigError(f"{unreported[0]} was not measured on the report split: run its study to the end")
    if given.split != "report" and len(scores := {study.score: study.name for study in studies}) > 1:
        told = ", ".join(f"{name} by {score}" for score, name in scores.items())
        raise ConfigError(f"the studies chose by different scores ({told}): compare what they share, --split report")
    compared = contenders(studies)
    splits = {"tune": [False], "report": [True], "both": [False] if unreported else [False, True]}[given.split]
    for report in splits:
        print(f"{SPLITS[report]}\n\n{_of_split(compared, given.at, report)}\n")
    if True in splits:
        print(_at_equal_cost(compared, given.at))
    elif unreported:
        print(f"no report split: {', '.join(unreported)} was not measured on it\n")
    print(_what_mattered(compared))
    overlay(compared, splits, given.out)
    print(f"picture  {given.out}")
    return 0


def _of_split(compared: "list[Contender]", ratios: list[float], report: bool) -> str:
    """Summary, shares and, where there are seeds, their test."""
    from search.results.comparison import dominated_shares, seed_tests, summary

    parts = [_shown(summary(compared, ratios, report))]
    if len(compared) > 1:
        shares = dominated_shares(compared, report).reset_index()
        parts.append(f"share of the row's points that the column's front dominates\n\n{_shown(shares)}")
    if not (tests := seed_tests(compared, report)).empty:
        parts.append(f"hypervolumes seed by seed, paired Wilcoxon signed-rank test\n\n{_shown(tests)}")
    return "\n\n".join(parts)


def _at_equal_cost(compared: "list[Contender]", ratios: list[float]) -> str:
    """The paired differences; nothing for a single study."""
    from search.results.comparison import differences

    frame = differences(compared, ratios)
    if frame.empty:
        return ""
    tests = int(frame["p"].notna().sum())
    return (
        "score of left minus right at equal FLOPs ratio, report split; 95 %, paired bootstrap over samples\n\n"
        f"{_shown(frame)}\n\n{tests} tests; p-values are not corrected for their number\n"
    )


def _what_mattered(compared: "list[Contender]") -> str:
    """Importance for a high score; nothing where no study says."""
    from search.results.comparison import importances

    frame = importances(compared)
    return "" if frame.empty else f"importance for a high score (PED-ANOVA)\n\n{_shown(frame.reset_index())}\n"


def _shown(frame: "pd.DataFrame") -> str:
    from search.results.text_table import table

    rows = [tuple(row) for row in frame.itertuples(index=False)]
    return table([str(column) for column in frame.columns], rows)
