"""After a study: its pruner, other arms at the same FLOPs and the unpruned model play episodes of a closed loop."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoprune_lab.errors import one_line
from autoprune_lab.evaluation.film import film
from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.progress import progress
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import BudgetError
from autoprune_lab.statistics.records import Records
from search.config.schema import ReportSettings
from search.results.folder import read_json
from search.results.paired_answers import TUNED_ARM, UNPRUNED, Arm, sample_rows, with_differences
from search.results.report import arm_row, at_ratio, name_of_row, report_table, unreachable
from search.results.study_result import EPISODE_RECORDS, EPISODES, EPISODES_KEY, FILM, read_table
from search.results.text_table import Cell, table
from search.study.model_evaluator import ModelEvaluator
from search.study.objective import FIGURE


def forget(out: Path) -> None:
    """Take away what an earlier run of the study left, where nothing is to be played any more."""
    for name in (EPISODES, EPISODES_KEY, EPISODE_RECORDS, FILM):
        (out / name).unlink(missing_ok=True)


def evaluate_episodes(
    out: Path,
    report: ReportSettings,
    front: ParetoFront,
    tuned: Mapping[int, Pruner],
    arms: Mapping[str, Pruner],
    open_evaluator: Callable[[], ModelEvaluator],
) -> pd.DataFrame:
    """One row an arm, as in `report.evaluate_report`, the task's figures as `figure/NAME`; no rows of an empty front.

    The front's knee plays, which `autoprune export` takes too; other arms get the FLOPs that it spent there. What came
    of each episode goes to episodes_records.parquet, one of them to episode.gif: that in which the knee loses most
    against the unpruned model, of equals the last. All is read from the folder where nothing has changed.
    """
    if not front.labels:
        return pd.DataFrame()
    place = front.knee()
    number = int(front.labels[place])
    own = Arm(TUNED_ARM, number, front.costs[place])
    asked = {"episodes": report.episodes, "arms": report.arms, "trial": number, "cost": own.bound}
    made_of = json.loads(json.dumps(asked))
    if (out / EPISODES_KEY).is_file() and read_json(out / EPISODES_KEY).get("made_of") == made_of:
        return read_table(out / EPISODES)
    evaluator = open_evaluator()
    rows, played = _play(evaluator, own, tuned[number], arms)
    samples = pd.concat([_outcomes(arm, records) for arm, records in played.items()], ignore_index=True)
    frame = with_differences(pd.DataFrame(rows), samples, front)
    samples.to_parquet(out / EPISODE_RECORDS, index=False)
    frame.to_csv(out / EPISODES, index=False)
    filmed = _film(out / FILM, evaluator, tuned[number], *list(played.values())[:2])
    rows = json.loads(frame.to_json(orient="records"))
    told = {"made_of": made_of, "episodes": samples["id"].nunique(), "film": filmed, "rows": rows}
    (out / EPISODES_KEY).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return frame


def episodes_table(frame: pd.DataFrame) -> str:
    """The arms as the report has them, and below it the task's own figures, a column an arm."""
    measured = [row for row in frame.to_dict("records") if not np.isnan(row["score"])]
    figures = [str(name) for name in frame if str(name).startswith(FIGURE)]
    lines: list[list[Cell]] = [[name.removeprefix(FIGURE), *(float(row[name]) for row in measured)] for name in figures]
    return f"{report_table(frame)}\n\n{table(['figure', *map(name_of_row, measured)], lines)}"


def _play(
    evaluator: ModelEvaluator, own: Arm, pruner: Pruner, arms: Mapping[str, Pruner]
) -> tuple[list[dict[str, Any]], dict[Arm, Records]]:
    """The rows of all arms, and the records of those that could play: first unpruned, then `own`."""
    played = {Arm(UNPRUNED, None, 1.0): evaluator.run(None), own: evaluator.run(pruner)}
    spent = played[own].flops_ratio
    rows = [arm_row(arm, records) | _figures(evaluator, records) for arm, records in played.items()]
    for name, other in progress(list(arms.items()), doing="playing episodes", unit="arms"):
        arm = Arm(name, None, own.bound)
        try:
            played[arm] = evaluator.run(at_ratio(other, spent))
            rows.append(arm_row(arm, played[arm]) | _figures(evaluator, played[arm]))
        except BudgetError as error:
            rows.append(unreachable(arm, error))
    return rows, played


def _figures(evaluator: ModelEvaluator, records: Records) -> dict[str, float]:
    return {f"{FIGURE}{name}": value for name, value in evaluator.figures(records).items()}


def _outcomes(arm: Arm, records: Records) -> pd.DataFrame:
    return sample_rows(arm, records).assign(outcome=[row.prediction for row in records.rows])


def _film(file: Path, evaluator: ModelEvaluator, pruner: Pruner, whole: Records, own: Records) -> dict[str, str]:
    """The filmed episode's id, or what went wrong: a study's results do not depend on its pictures."""
    file.unlink(missing_ok=True)
    lost = (whole.by_sample - own.by_sample).round(9)
    place = int(np.flatnonzero(lost == lost.max())[-1])
    try:
        prepared = evaluator.prepared
        film(evaluator.vlm, prepared.task, prepared.samples[place], pruner).write_gif(file)
    except Exception as error:  # of any family's processor
        return {"why": one_line(error)}
    return {"id": own.rows[place].id}
