"""Expected hypervolume improvement: the closed form, the axes, and searches on functions whose front is known."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import norm

from autoprune_lab.fronts.front import ParetoFront
from search.study.axis import Axis
from search.study.ehvi import EHVISampler, _improvement

optuna.logging.set_verbosity(optuna.logging.ERROR)
FRONT = ParetoFront.of([0.2, 0.3, 0.4], [0.5, 0.7, 0.8])
AXES = [
    (FloatDistribution(0.1, 10.0, log=True), 1.0, 0.5),
    (FloatDistribution(0.0, 0.1, step=0.025), 0.075, 0.75),
    (IntDistribution(2, 8), 5, 0.5),
    (CategoricalDistribution(("a", "b", "c")), "c", 1.0),
]


def gain(cost, score, dearest=0.5):
    """What a point really adds to the front's area."""
    more = ParetoFront.of([*FRONT.costs, cost], [*FRONT.scores, score])
    return more.hypervolume(dearest) - FRONT.hypervolume(dearest)


@pytest.mark.parametrize(("distribution", "value", "unit"), AXES)
def test_a_value_and_its_place_are_each_other_s(distribution, value, unit):
    axis = Axis(distribution)
    assert axis.unit(value) == pytest.approx(unit)
    assert axis.value(unit) == pytest.approx(value) if value != "c" else axis.value(unit) == value
    drawn = axis.drawn(np.random.default_rng(0), 50)
    assert (axis.snapped(drawn) == drawn).all()
    assert all(distribution._contains(distribution.to_internal_repr(axis.value(one))) for one in drawn)


@pytest.mark.parametrize(("cost", "score"), [(0.1, 0.3), (0.25, 0.6), (0.25, 0.9), (0.35, 0.6), (0.6, 0.9)])
def test_a_sure_score_adds_its_area(cost, score):
    found = _improvement(FRONT, 0.5, (0.0, 1.0), *np.array([[cost], [score], [1e-9]]))
    assert found[0] == pytest.approx(gain(cost, score), abs=1e-8)


def test_an_unsure_score_adds_the_mean_of_its_areas_up_to_the_limit():
    scores = norm.ppf((np.arange(4000) + 0.5) / 4000, 0.7, 0.1)
    expected = np.mean([gain(0.25, min(score, 0.85)) for score in scores])
    found = _improvement(FRONT, 0.5, (0.0, 0.85), *np.array([[0.25], [0.7], [0.1]]))
    assert found[0] == pytest.approx(expected, rel=1e-3)


def objective(trial):
    """Cost rises with x; the score is best at one y for every x, one choice is worse, half of x is over the bound."""
    x, y = trial.suggest_float("x", 0, 1, step=0.05), trial.suggest_float("y", 0, 1, step=0.05)
    worse = 0.2 * (trial.suggest_categorical("who", ["good", "bad"]) == "bad")
    trial.set_constraint("bound", x - 0.5)
    if x > 0.5:
        raise optuna.TrialPruned
    return x, np.sqrt(x) * (1 - abs(y - 0.3)) - worse


def searched(sampler, n_trials=20):
    study = optuna.create_study(directions=["minimize", "maximize"])
    for n in range(n_trials):
        study.sampler = sampler(n)
        study.optimize(objective, n_trials=1)
    return study


def area(study):
    ran = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return ParetoFront.of([t.values[0] for t in ran], [t.values[1] for t in ran]).hypervolume(0.5)


def test_it_finds_the_front_never_tries_twice_and_learns_what_is_refused():
    study = searched(lambda n: EHVISampler(seed=n, n_startup_trials=6))
    whole = ParetoFront.of(x := np.arange(0, 0.51, 0.05), np.sqrt(x)).hypervolume(0.5)
    assert 0.7 * whole < area(study) <= whole
    assert area(study) > 1.1 * area(searched(lambda n: optuna.samplers.RandomSampler(seed=n)))
    assert len({str(t.params) for t in study.trials}) == 20
    late = study.trials[8:]
    assert sum(t.state == optuna.trial.TrialState.PRUNED for t in late) <= 2
    again = searched(lambda n: EHVISampler(seed=n, n_startup_trials=6))
    assert [t.params for t in again.trials] == [t.params for t in study.trials]


def test_a_study_without_a_trial_that_ran_spreads_its_settings():
    study = optuna.create_study(directions=["minimize", "maximize"])
    for n in range(6):
        study.sampler = EHVISampler(seed=n, n_startup_trials=2)
        trial = study.ask({"x": FloatDistribution(0, 1)})
        trial.set_constraint("bound", 1e6)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    places = np.sort([t.params["x"] for t in study.trials])
    assert np.diff(places).min() > 0.05
