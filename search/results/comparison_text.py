"""What there is to say of several studies beside one another, as text, CSV and LaTeX."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from search.results.comparison import differences, dominated_shares, importances, seed_tests, summary
from search.results.pictures import SPLITS
from search.results.seeds import Contender, contenders
from search.results.study_result import StudyResult
from search.results.text_table import latex_table, table


def text(studies: Sequence[StudyResult], ratios: Sequence[float], splits: Sequence[bool]) -> str:
    """The tables of each split (False: tune, True: report), then what mattered.

    Studies that were not measured on the report split are named, and stand in the tables of the other one alone.
    """
    parts = []
    for report in splits:
        compared = _compared(studies, report)
        parts.append(f"{SPLITS[report]}\n\n{_of_split(compared, ratios, report)}\n")
        if report:
            parts.append(_at_equal_cost(compared, ratios))
    unreported = [study.name for study in studies if study.report.empty]
    if True in splits and unreported:
        parts.append(f"not measured on the report split: {', '.join(unreported)}\n")
    return "\n".join([*parts, _what_mattered(contenders(studies))])


def write_summary(studies: Sequence[StudyResult], ratios: Sequence[float], splits: Sequence[bool], place: Path) -> None:
    """The summary of each split as a CSV table and as one of LaTeX; `place` names both, whatever its suffix."""
    found = [(SPLITS[report], summary(_compared(studies, report), ratios, report)) for report in splits]
    frame = pd.concat([rows.assign(split=split) for split, rows in found], ignore_index=True)
    first = ["study", "split"]
    frame = frame[[*first, *(name for name in frame.columns if name not in first)]]
    frame.to_csv(place.with_suffix(".csv"), index=False)
    place.with_suffix(".tex").write_text(latex_table(*_cells(frame), len(first)) + "\n", encoding="utf-8")


def _compared(studies: Sequence[StudyResult], report: bool) -> list[Contender]:
    return contenders([study for study in studies if not (report and study.report.empty)])


def _of_split(compared: Sequence[Contender], ratios: Sequence[float], report: bool) -> str:
    """Summary, shares and, where there are seeds, their test."""
    parts = [_shown(summary(compared, ratios, report))]
    if len(compared) > 1:
        shares = dominated_shares(compared, report).reset_index()
        parts.append(f"share of the row's points that the column's front dominates\n\n{_shown(shares)}")
    if not (tests := seed_tests(compared, report)).empty:
        parts.append(f"hypervolumes seed by seed, paired Wilcoxon signed-rank test\n\n{_shown(tests)}")
    return "\n\n".join(parts)


def _at_equal_cost(compared: Sequence[Contender], ratios: Sequence[float]) -> str:
    """The paired differences; nothing for a single study."""
    frame = differences(compared, ratios)
    if frame.empty:
        return ""
    tests = int(frame["p"].notna().sum())
    return (
        "score of left minus right at equal FLOPs ratio, report split; 95 %, paired bootstrap over samples\n\n"
        f"{_shown(frame)}\n\n{tests} tests; p-values are not corrected for their number\n"
    )


def _what_mattered(compared: Sequence[Contender]) -> str:
    """Importance for a high score; nothing where no study says."""
    frame = importances(compared)
    return "" if frame.empty else f"importance for a high score (PED-ANOVA)\n\n{_shown(frame.reset_index())}\n"


def _shown(frame: pd.DataFrame) -> str:
    return table(*_cells(frame))


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[tuple[str | float, ...]]]:
    """Headers and rows."""
    return [str(column) for column in frame.columns], [tuple(row) for row in frame.itertuples(index=False)]
