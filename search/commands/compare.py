"""`autoprune compare`."""

import argparse
from pathlib import Path

SUMMARY = "draw the fronts of several studies into one picture"
DESCRIPTION = """\
Overlay the Pareto fronts of several studies in one picture, and print for each the hypervolume (the area under
the front, between score 0 and FLOPs ratio 1) and the best score within fixed FLOPs ratios."""
EXAMPLES = """\
  autoprune compare runs/logistic_adaptive runs/fixed
  autoprune compare runs/* --split report --at 0.5 0.25 --out fronts.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies, the ratios to compare at, the split and the picture."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument("--at", nargs="+", type=float, default=[0.5, 0.35, 0.25], metavar="RATIO")
    parser.add_argument("--out", type=Path, default=Path("fronts.png"), metavar="PNG", help="the picture")
    parser.add_argument("--split", choices=["tune", "report"], default="tune", help="which scores to compare")


def run(given: argparse.Namespace) -> int:
    """Print one row a study and draw their fronts into one picture."""
    from search.results import StudyResult, comparison, overlay
    from search.table import table

    report = given.split == "report"
    studies = [StudyResult.read(folder) for folder in given.studies]
    frame = comparison(studies, given.at, report)
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    print(table([str(column) for column in frame.columns], rows))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    overlay(studies, given.out, report)
    print(f"\npicture  {given.out}")
    return 0
