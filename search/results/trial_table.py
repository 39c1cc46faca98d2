"""A study's trials as a table."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from autoprune_lab.fronts.front import NotOnFront
from search.config.goal import COST
from search.study.front import from_study, point_of
from search.study.futility import ANSWERED
from search.study.objective import KEPT, PRUNER
from search.study.slopes import COST_SLOPES, SCORE_SLOPES
from search.study.trials import RETRY, STOPPED, WORKER, feasible

# user attributes that are a column already, or no result
NOT_SHOWN = ("planned_ratio", "flops_ratio", COST, PRUNER, KEPT, ANSWERED, WORKER, COST_SLOPES, SCORE_SLOPES)
CURVES = ("mean", "least", "most")  # of `Planned.kept_by_layer`


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial that ended, in order: number, state, cost, FLOPs ratio, score, bound, front, params, attributes.

    A trial that was cut off and ran again is left out. Of a refused trial cost and FLOPs ratio are the planned ones.
    """
    on_front = set(from_study(study).labels)
    within = {trial.number for trial in feasible(study)}
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs[RETRY] for trial in trials if RETRY in trial.user_attrs}
    rows = []
    for trial in trials:
        if not trial.state.is_finished() or trial.number in again:
            continue
        planned = trial.user_attrs.get("planned_ratio", math.nan)
        cost, score = point_of(trial) if trial.values else (planned, math.nan)
        seconds = trial.duration.total_seconds() if trial.duration else math.nan
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "cost": cost,
                "flops_ratio": trial.user_attrs.get("flops_ratio", planned),
                "score": score,
                "over_bound": max(trial.constraints.values(), default=math.nan),
                "feasible": trial.number in within,
                "front": str(trial.number) in on_front,
                "seconds": seconds,
                **trial.params,
                **{key: value for key, value in trial.user_attrs.items() if key not in NOT_SHOWN},
            }
        )
    empty = ["trial", "state", "cost", "flops_ratio", "score", "feasible", "front"]
    return pd.DataFrame(rows, columns=None if rows else empty)


def kept_of(trials: Iterable[FrozenTrial]) -> dict[int, dict[str, list[float]]]:
    """`Planned.kept_by_layer` of each trial that has it; those of before it was kept have none."""
    return {trial.number: kept for trial in trials if (kept := trial.user_attrs.get(KEPT))}


def layers_frame(kept: Mapping[int, Mapping[str, Sequence[float]]]) -> pd.DataFrame:
    """One row a trial and layer: the fraction of the visual tokens entering it; the samples' mean, least and most."""
    rows = [
        (number, layer, *values)
        for number, curves in kept.items()
        for layer, values in enumerate(zip(*(curves[name] for name in CURVES), strict=True))
    ]
    return pd.DataFrame(rows, columns=["trial", "layer", *CURVES])


def cost_column(trials: pd.DataFrame) -> str:
    """Which column of a `trials_frame` is the cost; tables written before there was a choice have only one."""
    return COST if COST in trials else "flops_ratio"


def searched_groups(trials: pd.DataFrame) -> list[str]:
    """The groups from which a study's trials chose an option by its name, such as the policy."""
    return [group for group in ("policy", "scorer", "complexity", "recovery") if group in trials]


def left_out(trials: pd.DataFrame) -> NotOnFront:
    """What became of the trials in a `trials_frame` that are not on the front."""
    finite = np.isfinite(trials[cost_column(trials)].to_numpy(float)) & np.isfinite(trials["score"].to_numpy(float))
    failed = (trials["state"] == TrialState.FAIL.name.lower()).to_numpy(bool)
    stopped = trials[STOPPED].notna().to_numpy(bool) if STOPPED in trials else np.zeros(len(trials), dtype=bool)
    within, front = trials["feasible"].to_numpy(bool), trials["front"].to_numpy(bool)
    lacking = failed | stopped | (within & ~finite)
    dominated, infeasible, no_result = within & finite & ~front, ~within & ~lacking, lacking
    return NotOnFront(int(dominated.sum()), int(infeasible.sum()), int(no_result.sum()))
