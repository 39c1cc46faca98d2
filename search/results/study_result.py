"""A study as tables and files: what a finished study leaves in its folder, and how to read it again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import optuna
import pandas as pd

from autoprune_lab.atomic_write import atomic_write
from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.html_table import html_table
from search.config.compose import Settings
from search.config.errors import ConfigError
from search.config.goal import OWN_SCORE
from search.config.paths import select
from search.results.folder import CONFIG, check_finished, read_config, read_json
from search.results.importance import importance
from search.results.paired_answers import TUNED_ARM, UNPRUNED
from search.results.trial_table import (
    CURVES,
    cost_column,
    kept_of,
    layers_frame,
    left_out,
    searched_groups,
    trials_frame,
)
from search.study.front import from_study
from search.study.objective import PRUNER
from search.study.trials import feasible

TRIALS, FRONT, REPORT = "trials.csv", "front.csv", "report.csv"
RECORDS, IMPORTANCE, PRUNERS = "report_records.parquet", "importance.csv", "pruners.json"
LAYERS, PATCHES = "layers.csv", "patches.json"
REPORT_LATEX = "report.tex"
EPISODES, EPISODES_KEY, EPISODE_RECORDS, FILM = (
    "episodes.csv",
    "episodes.json",
    "episodes_records.parquet",
    "episode.gif",
)
PICTURE, REPORT_PICTURE, LAYERS_PICTURE, PAGE = "front.png", "report.png", "layers.png", "index.html"


def write(study: optuna.Study, settings: Settings) -> ParetoFront:
    """Write config.yaml, trials.csv, layers.csv, pruners.json, importance.csv, front.csv, front.json; the front."""
    out, front = settings.out, from_study(study)
    write_config(settings)
    trials_frame(study).to_csv(out / TRIALS, index=False)
    layers_frame(kept_of(study.get_trials(deepcopy=False))).to_csv(out / LAYERS, index=False)
    ran = {trial.number: trial.user_attrs.get(PRUNER) for trial in feasible(study)}
    (out / PRUNERS).write_text(json.dumps(ran) + "\n", encoding="utf-8")
    importance(study).to_csv(out / IMPORTANCE, index=False)
    front.to_csv(out / FRONT)
    front.to_json(out / "front.json")
    return front


def write_config(settings: Settings) -> None:
    """Write config.yaml into the study's folder, without passwords; whoever reads it meanwhile finds a whole one."""
    with atomic_write(settings.out / CONFIG) as half:
        half.write_text(settings.yaml, encoding="utf-8")


def read_table(path: Path, numbers: Sequence[str] = (), others: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV file; no rows where there is none. ConfigError where columns are missing, or `numbers` hold others."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
        if missing := [name for name in (*numbers, *others) if name not in table]:
            raise ValueError(f"it has no column {missing[0]}")
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})
    except ValueError as error:
        raise _damaged(path, error) from error


def _read_front(path: Path, trials: pd.DataFrame) -> ParetoFront:
    """The front of these trials. Raises ConfigError for a file that is none, or one of other trials."""
    try:
        front = ParetoFront.from_csv(path)
        if strange := set(front.labels) - set(trials["trial"].astype(str)):
            raise ValueError(f"{TRIALS} has no trial {min(strange)}")
    except ValueError as error:
        raise _damaged(path, error) from error
    return replace(front, left_out=left_out(trials))


def _damaged(path: Path, error: ValueError) -> ConfigError:
    return ConfigError(f"{path} cannot be read ({error}): run its study again, and it is written anew")


@dataclass(frozen=True)
class StudyResult:
    """What a study left in its folder; `report` and `samples` have no rows when none were written."""

    name: str
    folder: Path
    front: ParetoFront
    trials: pd.DataFrame
    report: pd.DataFrame

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Read a study's folder; raises ConfigError when it is none or its study has not ended."""
        path = Path(folder)
        check_finished(path)
        trials = read_table(path / TRIALS, ("trial", "flops_ratio", "score"), ("state", "feasible", "front"))
        report = read_table(path / REPORT, ("trial", "flops_ratio", "score", "low", "high"), ("arm", "bound"))
        return cls(path.resolve().name, path, _read_front(path / FRONT, trials), trials, report)

    @classmethod
    def find(cls, folder: Path | str) -> list[Self]:
        """Every finished study right below a folder, by name; those put aside by --fresh are left out."""
        places = sorted(file.parent for file in Path(folder).glob(f"*/{FRONT}") if ".old-" not in file.parent.name)
        if not places:
            raise ConfigError(f"no finished study below {folder}: run autoprune study first")
        return [cls.read(place) for place in places]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self.trials)} trials, {len(self.front.costs)} on the front)"

    def _repr_html_(self) -> str:
        """The front, what was searched by name (the policy), and each point's score on the report split."""
        groups = searched_groups(self.trials)
        again = {int(row["trial"]): row for row in self._measured(tuned=True).to_dict("records")}
        by_number = {str(row["trial"]): row for row in self.trials.to_dict("records")}
        rows = [
            [
                label,
                *(by_number[label][group] for group in groups),
                cost,
                score,
                *(again.get(int(label), {}).get(key) for key in ("score", "low", "high")),
            ]
            for label, cost, score in zip(self.front.labels, self.front.costs, self.front.scores, strict=True)
        ]
        by = "score" if self.score == OWN_SCORE else self.score
        headers = ["trial", *groups, self.cost, f"{by}, tune", "score, report", "95 %: low", "high"]
        return html_table(f"{self!r}; {self.front.left_out}", headers, rows)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The experiment's settings; empty where the folder does not say."""
        return read_config(self.folder)

    @property
    def cost(self) -> str:
        """What the front's cost is."""
        return cost_of(self.config)

    @property
    def score(self) -> str:
        """What a trial's score is: `search.config.goal.SCORES`; the report's is the task's own wherever it can be."""
        return score_of(self.config)

    @property
    def bounds(self) -> list[float]:
        """The cost that no trial was to pass; empty where the bound was on something else."""
        return bounds_of(self.config)

    @property
    def samples(self) -> pd.DataFrame:
        """Every answer on the report split, as `search.results.paired_answers.sample_rows` has them."""
        file = self.folder / RECORDS
        return pd.read_parquet(file) if file.is_file() else pd.DataFrame()

    @property
    def episodes(self) -> pd.DataFrame:
        """What the arms were worth in a closed loop (`search.results.episodes`); no rows where none was played."""
        return read_table(self.folder / EPISODES, ("trial", "flops_ratio", "score"), ("arm", "bound"))

    @property
    def importance(self) -> pd.DataFrame:
        """Which parameters made the difference (`search.results.importance`)."""
        return read_table(self.folder / IMPORTANCE)

    @property
    def layers(self) -> pd.DataFrame:
        """`search.results.trial_table.layers_frame` of every trial that was planned; no rows in older folders."""
        return read_table(self.folder / LAYERS, ("trial", "layer", *CURVES))

    @property
    def pruners(self) -> Mapping[int, Any]:
        """What each trial within the bound tried, in the form of `Pruner.save`."""
        file = self.folder / PRUNERS
        ran = read_json(file) if file.is_file() else {}
        return {int(number): node for number, node in ran.items() if node is not None}

    @property
    def tried(self) -> Mapping[str, list[tuple[float, ...]]]:
        """(cost, score) of the trials within the bound: those off the front, or all of them by what they chose."""
        run, groups = self.trials[self.trials["feasible"]], searched_groups(self.trials)
        if not groups:
            return {"other trials": _points(run[~run["front"]])}
        return {", ".join(map(str, chosen)): _points(rows) for chosen, rows in run.groupby(groups)}

    @property
    def report_front(self) -> ParetoFront:
        """The front's points as measured on the report split, as far as they do not dominate each other there."""
        rows = self._measured(tuned=True)
        return ParetoFront.of(rows["flops_ratio"], rows["score"], rows["trial"].astype(int).tolist())

    @property
    def report_points(self) -> list[tuple[float, ...]]:
        """(FLOPs ratio, score, low, high) of every point of the front that was measured on the report split."""
        return _intervals(self._measured(tuned=True))

    @property
    def arms(self) -> Mapping[str, list[tuple[float, ...]]]:
        """The same of every arm it was compared with, the unpruned model left out."""
        rows = self._measured(tuned=False)
        rows = rows[rows["arm"] != UNPRUNED]
        return {str(name): _intervals(arm) for name, arm in rows.groupby("arm", sort=False)}

    @property
    def unpruned(self) -> dict[str, float]:
        """The unpruned model's score on the report split by its name; empty where it was not measured."""
        rows = self._measured(tuned=False).set_index("arm")
        return {str(name): float(score) for name, score in rows["score"].items() if name == UNPRUNED}

    def _measured(self, tuned: bool) -> pd.DataFrame:
        """Rows of the report that have a score, of the front or of the other arms."""
        rows = self.report.reindex(columns=["arm", "trial", "bound", "flops_ratio", "score", "low", "high"])
        return rows[(rows["arm"] == TUNED_ARM) == tuned].dropna(subset=["score"])


def cost_of(config: Mapping[str, Any]) -> str:
    """What the front's cost is in a study of this config."""
    return str(select(config, "search.cost") or "flops_ratio")


def score_of(config: Mapping[str, Any]) -> str:
    """What a trial's score is in a study of this config."""
    return str(select(config, "search.score") or OWN_SCORE)


def bounds_of(config: Mapping[str, Any]) -> list[float]:
    """The cost that no trial of such a study was to pass; empty where the bound was on something else."""
    bound = select(config, "budget.flops_ratio") if cost_of(config) == "flops_ratio" else None
    return [] if bound is None else [float(bound)]


def _points(rows: pd.DataFrame) -> list[tuple[float, ...]]:
    return list(zip(rows[cost_column(rows)], rows["score"], strict=True))


def _intervals(rows: pd.DataFrame) -> list[tuple[float, ...]]:
    return [tuple(row) for row in rows[["flops_ratio", "score", "low", "high"]].itertuples(index=False)]


def artifacts(folder: Path) -> dict[str, Path]:
    """What a study's folder offers to others: tables, pictures, tuned pruners; name to file."""
    names = (
        CONFIG,
        TRIALS,
        LAYERS,
        PATCHES,
        PRUNERS,
        IMPORTANCE,
        FRONT,
        "front.json",
        PICTURE,
        PAGE,
        REPORT,
        RECORDS,
        "report.json",
        REPORT_PICTURE,
        LAYERS_PICTURE,
        REPORT_LATEX,
        EPISODES,
        EPISODES_KEY,
        EPISODE_RECORDS,
        FILM,
        *(
            f"{Path(name).stem}{suffix}"
            for name in (PICTURE, REPORT_PICTURE, LAYERS_PICTURE)
            for suffix in (".pdf", ".svg")
        ),
    )
    files = [folder / name for name in names] + sorted(folder.glob("tuned/*.yaml"))
    return {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}


def read_report_key(folder: Path) -> Any:
    """What the report in the folder was made of, or None."""
    file = folder / "report.json"
    return read_json(file).get("made_of") if file.is_file() else None
