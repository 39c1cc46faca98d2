"""What the study page knows of one study, as plain values that JSON has; what is no finite number is None."""

import base64
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.pruner_file import text
from search.config.errors import ConfigError
from search.config.goal import COSTS, SCORES
from search.config.paths import select
from search.results.folder import FINISHED, load_optuna_study, read_config, read_json
from search.results.importance import importance
from search.results.paired_answers import DIFFERENCE, TUNED_ARM, UNPRUNED
from search.results.study_result import (
    EPISODES_KEY,
    FILM,
    PATCHES,
    REPORT,
    StudyResult,
    bounds_of,
    cost_of,
    read_table,
    score_of,
)
from search.results.trial_table import CURVES, cost_column, kept_of, left_out, trials_frame
from search.study.objective import FIGURE, PRUNER
from search.study.trials import REFUSED, STOPPED, n_ended

JOURNAL = "journal.log"
RESULTS = {"trial", "state", "cost", "flops_ratio", "score", "over_bound", "feasible", "front", "seconds"}
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"}
"""Plotly's names of matplotlib's markers; any other is an x."""
MOST_FILES = 1000  # trials; of more only the front's pruner files are on the page, `autoprune export` gives the others


class Source:
    """One study, read anew at every `data`; of trials that have ended what was made once is kept.

    From its trials where they are kept (a study that runs is shown as it is), else from the tables in its folder: that
    is so where trials are in a database and the study has ended.
    """

    def __init__(self, folder: Path, study: optuna.Study | None = None) -> None:
        self.folder, self.study, self.config = folder, study, read_config(folder)
        self._files: dict[int, str] = {}

    @classmethod
    def find(cls, folder: Path) -> "Source":
        """The study of a folder, finished or not. Raises ConfigError where there is none, or a file is damaged."""
        has_tables = all((folder / name).is_file() for name in FINISHED)
        if has_tables and not (folder / JOURNAL).is_file():
            return cls(folder)
        try:
            return cls(folder, load_optuna_study(folder))
        except (ConfigError, OSError):  # its journal was not kept, or the folder may only be read
            if not has_tables:
                raise
            return cls(folder)

    @property
    def name(self) -> str:
        """The folder's."""
        return self.folder.resolve().name

    def data(self) -> dict[str, Any]:
        """All that the page shows of the study."""
        trials, nodes, kept, mattered, running = self._read()
        report = read_table(self.folder / REPORT)
        cost, score = cost_of(self.config), score_of(self.config)
        names = _parameters(trials, self.config)
        return {
            "name": self.name,
            "facts": _facts(self.config),
            "cost": {"name": cost, "label": COSTS.get(cost, cost)},
            "score": {"name": score, "label": SCORES.get(score, score)},
            "bounds": bounds_of(self.config),
            "ended": n_ended(self.study) if self.study is not None else len(trials),
            "wanted": select(self.config, "search.n_trials"),
            "running": running,
            "left_out": str(left_out(trials)),
            "knee": _knee(trials),
            "parameters": names,
            "trials": [_trial(row, names, cost_column(trials)) for row in trials.to_dict("records")],
            "kept": kept,
            "files": self._texts(nodes, trials),
            "report": [_arm(row) for row in report.to_dict("records")],
            "importance": _plain(mattered.to_dict("records")),
            "patches": read_json(self.folder / PATCHES) if (self.folder / PATCHES).is_file() else None,
            "episodes": _episodes(self.folder),
        }

    def _read(self) -> tuple[pd.DataFrame, Mapping[int, Any], dict[int, Any], pd.DataFrame, int]:
        """Trials, the pruner and the kept fractions of each, what mattered, and how many are under way."""
        if self.study is None:
            result = StudyResult.read(self.folder)
            return result.trials, result.pruners, _curves(result.layers), result.importance, 0
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        nodes = {trial.number: node for trial in ended if (node := trial.user_attrs.get(PRUNER)) is not None}
        running = len(self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)))
        return trials_frame(self.study), nodes, kept_of(ended), importance(self.study), running

    def _texts(self, nodes: Mapping[int, Any], trials: pd.DataFrame) -> dict[int, str]:
        """The pruner file of each trial within the bound, as `Pruner.load` reads it."""
        shown = trials[trials["feasible"] & (trials["front"] | (len(trials) <= MOST_FILES))]
        numbers = [int(number) for number in shown["trial"] if number in nodes]
        self._files |= {number: text(nodes[number]) for number in numbers if number not in self._files}
        return {number: self._files[number] for number in numbers}


def _curves(layers: pd.DataFrame) -> dict[int, Any]:
    """What `layers_frame` made a table of."""
    if layers.empty:
        return {}
    numbers = layers["trial"].astype(int)
    return {n: {name: layers[name][numbers == n].tolist() for name in CURVES} for n in numbers.unique().tolist()}


def _facts(config: Mapping[str, Any]) -> dict[str, str]:
    """What the study is about, in a few words."""
    paths = {
        "model": "model.path",
        "task": "task._target_",
        "policy": "pruner.policy._target_",
        "scorer": "pruner.scorer._target_",
        "sampler": "search.sampler._target_",
        "seed": "seed",
    }
    found = {name: select(config, path) for name, path in paths.items()}
    return {name: re.split(r"[./](?=\D)", str(value))[-1] for name, value in found.items() if value is not None}


def _parameters(trials: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    """The columns that the study chose: those below the pruner, and groups such as the policy."""
    groups = set(select(config, "space") or ())
    return [str(name) for name in trials if name not in RESULTS and ("pruner." in str(name) or name in groups)]


def _trial(row: Mapping[Any, Any], names: Iterable[str], cost: str) -> dict[str, Any]:
    """One trial; `why` says what it was refused, stopped or failed for."""
    known = {str(name): value for name, value in row.items() if not _is_missing(value)}
    why = known.get(REFUSED) or known.get(STOPPED)
    if why is None and row["state"] == "fail":
        why = "the score is no number" if "no_result" in known else "its worker died"
    notes = ("baseline", "same_as", "complexity_mean", "complexity_sd", "mean_tokens")
    return {
        "trial": int(row["trial"]),
        "state": REFUSED if REFUSED in known else STOPPED if STOPPED in known else str(row["state"]),
        "cost": _plain(row[cost]),
        "flops_ratio": _plain(row["flops_ratio"]),
        "score": _plain(row["score"]),
        "feasible": bool(row["feasible"]),
        "front": bool(row["front"]),
        "seconds": _plain(row.get("seconds")),
        "why": why,
        "settings": _plain({name: known[name] for name in names if name in known}),
        "kinds": _kinds(known),
        "notes": _plain({name: known[name] for name in notes if name in known}),
    }


def _arm(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the report; arms look as they do in every figure."""
    names = ("arm", "trial", "bound", "flops_ratio", "score", "low", "high", "note", "loyalty")
    found: dict[str, Any] = _plain({name: row.get(name) for name in names})
    if row["arm"] not in (TUNED_ARM, UNPRUNED):
        from autoprune_lab.fronts.styles import style_of  # here: before the first trial nobody waits for matplotlib

        style = style_of(str(row["arm"]))
        symbol = SYMBOLS.get(style.marker, "x")
        found |= {"colour": style.colour, "symbol": symbol if style.face != "none" else f"{symbol}-open"}
    return found | {"kinds": _kinds({str(name): value for name, value in row.items() if not _is_missing(value)})}


def _episodes(folder: Path) -> dict[str, Any] | None:
    """What was played in a closed loop: each arm's row and figures, and the film or why there is none."""
    if not (folder / EPISODES_KEY).is_file():
        return None
    known, film = read_json(folder / EPISODES_KEY), folder / FILM
    rows = [
        {
            **_arm(row),
            **_plain({name: row.get(name) for name in ("reference", *DIFFERENCE)}),
            "figures": {name.removeprefix(FIGURE): row[name] for name in row if name.startswith(FIGURE)},
        }
        for row in known["rows"]
    ]
    uri = f"data:image/gif;base64,{base64.b64encode(film.read_bytes()).decode()}" if film.is_file() else None
    return {"n": known["episodes"], "rows": rows, "film": {**known["film"], "uri": uri}}


def _kinds(known: Mapping[str, Any]) -> dict[str, Any]:
    """Score of each kind."""
    return {name.removeprefix("score/"): _plain(known[name]) for name in known if name.startswith("score/")}


def _knee(trials: pd.DataFrame) -> int | None:
    """The trial that `autoprune export` picks."""
    best = trials[trials["front"].astype(bool)]
    front = ParetoFront.of(best[cost_column(trials)], best["score"], best["trial"].tolist())
    return int(front.labels[front.knee()]) if front.labels else None


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value))


def _plain(value: Any) -> Any:
    """JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
