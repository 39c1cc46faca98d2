"""`autoprune compare`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.results.study_result import StudyResult

SUMMARY = "set the fronts of several studies against each other, in tables and one picture"
DESCRIPTION = """\
Overlay the Pareto fronts of several studies, tune and report split apart, and print for each the hypervolume (the
area under the front, between score 0 and FLOPs ratio 1) and the best score within fixed FLOPs ratios; for each pair
the share of points that the other front dominates, and the score difference at those ratios on the same report
samples (paired bootstrap); and which parameters mattered.

What is no finished study is named and left out, so that runs/* may be said. Folders named NAME-s0, NAME-s1, ... are
seeds of one study: the picture shows their median attainment surface in a band from the best to the worst, and two such
studies get a paired Wilcoxon test on their hypervolumes."""
EXAMPLES = """\
  autoprune compare runs/logistic_adaptive runs/fixed
  autoprune compare runs/logistic-s* runs/fixed-s* --out fronts.png
  autoprune compare runs/* --split report --at 0.5 0.25"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies, the ratios to compare at, the splits and the picture."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="DIR", help="a study's folder")
    add_ratios(parser)
    parser.add_argument("--out", type=Path, default=Path("fronts.png"), metavar="PNG", help="the picture")
    parser.add_argument("--split", choices=["tune", "report", "both"], default="both", help="which scores to compare")


def add_ratios(parser: argparse.ArgumentParser) -> None:
    """The ratios to compare at."""
    told = "FLOPs ratios to compare at"
    parser.add_argument("--at", nargs="+", type=float, default=[0.5, 0.35, 0.25], metavar="RATIO", help=told)


def run(given: argparse.Namespace) -> int:
    """Print the tables, one split after the other, and draw the picture."""
    from search.config.early_checks import check_file

    folders = finished_among(given.studies)
    check_file(given.out, "--out")
    from search.results.comparison_text import text
    from search.results.pictures import overlay
    from search.results.seeds import contenders
    from search.results.study_result import StudyResult

    studies = [StudyResult.read(folder) for folder in folders]
    splits = splits_of(studies, given.split)
    print(text(studies, given.at, splits))
    overlay(contenders(studies), splits, given.out)
    print(f"picture  {given.out}")
    return 0


def finished_among(places: list[Path]) -> list[Path]:
    """The finished studies among the places; what else there is, is named in a line. ConfigError where none is one."""
    from search.results.folder import check_finished, is_finished

    found = [place for place in places if is_finished(place)]
    for place in places:
        if not found or not place.exists():  # a pattern gives none that is not there
            check_finished(place)
    if others := [str(place) for place in places if place not in found]:
        print(f"autoprune: no finished study, left out: {', '.join(others)}", file=sys.stderr)
    return found


def splits_of(studies: "list[StudyResult]", asked: str) -> list[bool]:
    """Which splits can be compared of those that were asked for. ConfigError where none can."""
    from search.config.errors import ConfigError

    is_reported = any(not study.report.empty for study in studies)
    if asked == "report" and not is_reported:
        raise ConfigError(f"{studies[0].name} was not measured on the report split: run its study to the end")
    scores = {study.score: study.name for study in studies}
    if asked != "report" and len(scores) > 1:
        told = ", ".join(f"{name} by {score}" for score, name in scores.items())
        said = f"the studies chose by different scores ({told})"
        if asked == "tune" or not is_reported:
            raise ConfigError(f"{said}: compare what they share, --split report")
        print(f"autoprune: {said}: only the report split is compared", file=sys.stderr)
        return [True]
    return {"tune": [False], "report": [True], "both": [False, True] if is_reported else [False]}[asked]
