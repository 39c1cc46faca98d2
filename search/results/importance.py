"""Which parameters made the difference in a study."""

import warnings

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from search.study.front import point_of

COLUMNS = ["parameter", "score", "cost"]


def importance(study: optuna.Study) -> pd.DataFrame:
    """One row a parameter, the most important for the score first; each column adds up to 1, NaN where unknown.

    `score`: how much the parameter tells whether a trial is among those with the *highest* scores; `cost`: among the
    *cheapest*. Trials that were refused count for neither. Only parameters that every trial had are told apart.

    Source: PED-ANOVA, arXiv 2304.10255. It asks what makes a target *low*, so the score is given with its sign turned.
    """
    run = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = sorted(set.intersection(*(set(trial.params) for trial in run))) if run else []
    varied = [name for name in names if len({trial.params[name] for trial in run}) > 1]
    if len(run) < 2 or not varied:
        return pd.DataFrame([(name, float("nan"), float("nan")) for name in names], columns=COLUMNS)
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # here: it imports scikit-learn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the very thing that the sign is turned for
        evaluator = PedAnovaImportanceEvaluator()
        for_score = get_param_importances(study, evaluator=evaluator, params=varied, target=_minus_score)
        for_cost = get_param_importances(study, evaluator=evaluator, params=varied, target=_cost)
    rows = [(name, for_score.get(name), for_cost.get(name)) for name in names]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"score": float, "cost": float})
    return frame.sort_values("score", ascending=False, ignore_index=True)


def _minus_score(trial: FrozenTrial) -> float:
    return -point_of(trial)[1]


def _cost(trial: FrozenTrial) -> float:
    return point_of(trial)[0]
