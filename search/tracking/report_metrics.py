"""What the report split says of a study, as metrics of its run: MLflow's table then compares studies at a glance."""

import math
from pathlib import Path

from search.results.comparison import summary
from search.results.paired_answers import TUNED_ARM, UNPRUNED
from search.results.seeds import contenders
from search.results.study_result import REPORT, StudyResult
from search.study.objective import FIGURE


def report_metrics(folder: Path) -> dict[str, float]:
    """`report/hypervolume`; within each bound `report/score_at_BOUND` of the tuned trial and `report/ARM_at_BOUND`.

    The unpruned model has no bound. Of episodes that were played at the end the arms' scores as `episodes/ARM`, and the
    task's figures of the front's knee as `episodes/FIGURE`. Nothing where there is no report; what could not be
    measured is left out.
    """
    if not (folder / REPORT).is_file():
        return {}
    result = StudyResult.read(folder)
    rows = result.report.dropna(subset=["score", "bound"])
    rows = rows[~rows["arm"].isin([TUNED_ARM, UNPRUNED])]
    bounds = sorted(rows["bound"].unique().tolist())
    (own,) = summary(contenders([result]), bounds, report=True).to_dict("records")
    found = {"report/hypervolume": float(own["hypervolume"])}
    found |= {f"report/score_at_{bound:g}": float(own[f"score@{bound:g}"]) for bound in bounds}
    for row in rows.to_dict("records"):
        found[f"report/{row['arm']}_at_{row['bound']:g}"] = float(row["score"])
    found |= {f"report/{name}": score for name, score in result.unpruned.items()}
    for row in result.episodes.to_dict("records"):
        found[f"episodes/{row['arm']}"] = float(row["score"])
        if row["arm"] == TUNED_ARM:
            figures = [str(name) for name in row if str(name).startswith(FIGURE)]
            found |= {f"episodes/{name.removeprefix(FIGURE)}": float(row[name]) for name in figures}
    return {name: value for name, value in found.items() if not math.isnan(value)}
