"""A study as tables and files: what a finished study leaves in its folder, and how to read it again."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from omegaconf import OmegaConf
from optuna.trial import TrialState

from autoprune_lab.pareto import COST_LABEL, ParetoFront, plot_fronts
from search.config import ConfigError, Settings
from search.front_page import dots_of, page
from search.objective import PRUNER
from search.trials import WORKER, feasible

TRIALS, FRONT, REPORT, CONFIG = "trials.csv", "front.csv", "report.csv", "config.yaml"
NOT_SHOWN = ("planned_ratio", PRUNER, WORKER)  # user attributes: a column already, or no result
PICTURE, REPORT_PICTURE, PAGE = "front.png", "report.png", "front.html"


def front_of(study: optuna.Study) -> ParetoFront:
    """The non-dominated trials within the bound, labelled by trial number."""
    trials = feasible(study)
    return ParetoFront.of(
        [trial.values[0] for trial in trials],
        [trial.values[1] for trial in trials],
        [trial.number for trial in trials],
    )


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial that ended, in order: number, state, flops_ratio, score, bound, front, refused, params, attrs."""
    on_front = set(front_of(study).labels)
    within = {trial.number for trial in feasible(study)}
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished() or trial.state == TrialState.FAIL:
            continue
        ratio, score = trial.values or (trial.user_attrs.get("planned_ratio", math.nan), math.nan)
        seconds = trial.duration.total_seconds() if trial.duration else math.nan
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "flops_ratio": ratio,
                "score": score,
                "over_bound": max(trial.constraints.values(), default=math.nan),
                "feasible": trial.number in within,
                "front": str(trial.number) in on_front,
                "seconds": seconds,
                **trial.params,
                **{key: value for key, value in trial.user_attrs.items() if key not in NOT_SHOWN},
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["trial", "state", "flops_ratio", "score", "feasible", "front"])


def write(study: optuna.Study, settings: Settings) -> ParetoFront:
    """Write config.yaml, trials.csv, front.csv and front.json into the study's folder; return the front."""
    out, front = settings.out, front_of(study)
    write_config(settings)
    trials_frame(study).to_csv(out / TRIALS, index=False)
    front.to_csv(out / FRONT)
    front.to_json(out / "front.json")
    return front


def write_config(settings: Settings) -> None:
    """Write config.yaml into the study's folder; whoever reads it meanwhile finds a whole one."""
    new = settings.out / f"{CONFIG}.new"
    new.write_text(OmegaConf.to_yaml(settings.config), encoding="utf-8")
    new.replace(settings.out / CONFIG)


@dataclass(frozen=True)
class StudyResult:
    """What a study left in its folder; `report` has no rows when none was written."""

    name: str
    folder: Path
    front: ParetoFront
    trials: pd.DataFrame
    report: pd.DataFrame

    @classmethod
    def read(cls, folder: Path | str) -> "StudyResult":
        """Read a study's folder; raises ConfigError when it is none or its study has not ended."""
        path = Path(folder)
        for name in (TRIALS, FRONT):
            if not (path / name).is_file():
                raise ConfigError(f"{path} is not the folder of a finished study: it has no {name}")
        report = pd.read_csv(path / REPORT) if (path / REPORT).is_file() else pd.DataFrame()
        front = ParetoFront.from_csv(path / FRONT)
        return cls(path.resolve().name, path, front, pd.read_csv(path / TRIALS), report)

    @classmethod
    def find(cls, folder: Path | str) -> "list[StudyResult]":
        """Every finished study right below a folder, by name; those put aside by --fresh are left out."""
        places = sorted(file.parent for file in Path(folder).glob(f"*/{FRONT}") if ".old-" not in file.parent.name)
        if not places:
            raise ConfigError(f"no finished study below {folder}: run autoprune study first")
        return [cls.read(place) for place in places]

    @property
    def report_front(self) -> ParetoFront:
        """The front's points as measured on the report split, as far as they do not dominate each other there."""
        if self.report.empty:
            return ParetoFront((), (), ())
        rows = self.report[self.report["arm"] == "front"]
        return ParetoFront.of(rows["flops_ratio"], rows["score"], [int(number) for number in rows["trial"]])

    @property
    def arms(self) -> Mapping[str, list[tuple[float, float]]]:
        """(FLOPs ratio, score) of every arm it was compared with, on the report split."""
        if self.report.empty:
            return {}
        rows = self.report[self.report["arm"] != "front"].dropna(subset=["score"])
        return {
            str(name): list(zip(group["flops_ratio"], group["score"], strict=True))
            for name, group in rows.groupby("arm", sort=False)
        }


def comparison(studies: Sequence[StudyResult], ratios: Sequence[float], report: bool = False) -> pd.DataFrame:
    """One row a study: trials, points of the front, hypervolume, best score within each of the FLOPs ratios.

    The hypervolume is the area above score 0 and left of FLOPs ratio 1; `report` takes the report split.
    """
    rows: list[dict[str, Any]] = []
    for study in studies:
        front = study.report_front if report else study.front
        row = {"study": study.name, "trials": len(study.trials), "points": len(front.costs)}
        row["hypervolume"] = front.hypervolume()
        rows.append(row | {f"score@{ratio:g}": front.score_at(ratio) for ratio in ratios})
    return pd.DataFrame(rows)


def overlay(studies: Sequence[StudyResult], path: Path | str | None = None, report: bool = False) -> Any:
    """The fronts in one picture; on the report split, with the arms of the first study beside them."""
    split = "report split" if report else "tune split"
    fronts = {study.name: study.report_front if report else study.front for study in studies}
    points = studies[0].arms if report and studies else {}
    return plot_fronts(fronts, points, path=path, title=f"Pareto fronts, {split}")


def report_columns(study: StudyResult) -> pd.DataFrame:
    """The study's report, one row a point, without the scores of single kinds."""
    columns = ["arm", "trial", "bound", "flops_ratio", "mean_tokens", "score", "low", "high"]
    return study.report.reindex(columns=columns)


def draw(result: StudyResult) -> None:
    """front.png, front.html: every trial within the bound and the front; report.png: front and arms, report split."""
    run = result.trials[result.trials["feasible"]]
    dots = {"trials": list(zip(run["flops_ratio"], run["score"], strict=True))}
    plot_fronts({"front": result.front}, dots, path=result.folder / PICTURE, title=f"{result.name}, tune split")
    text = page(f"{result.name}, tune split", dots_of(result.trials), COST_LABEL, "accuracy")
    (result.folder / PAGE).write_text(text, encoding="utf-8")
    fronts = {"front": result.report_front}
    plot_fronts(fronts, result.arms, path=result.folder / REPORT_PICTURE, title=f"{result.name}, report split")


def artifacts(folder: Path) -> dict[str, Path]:
    """What a study's folder offers to others: tables, pictures, tuned pruners; name to file."""
    names = (CONFIG, TRIALS, FRONT, "front.json", PICTURE, PAGE, REPORT, "report.json", REPORT_PICTURE)
    files = [folder / name for name in names] + sorted(folder.glob("tuned/*.yaml"))
    return {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}


def read_report_key(folder: Path) -> Any:
    """What the report in the folder was made of, or None."""
    file = folder / "report.json"
    return json.loads(file.read_text(encoding="utf-8"))["made_of"] if file.is_file() else None
