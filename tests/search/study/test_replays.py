"""Published searches again: what each maximises, what is chosen within a cost, how the table is reckoned."""

import numpy as np
import optuna
import pytest

from benchmarks.replays import BOUNDED, FRONT, PUBLISHED, REPLAYS, Found, composed, searched, summarise, text
from search.config.goal import BEST, COST
from search.study.objective import PRUNER, Objective


def trial(**params):
    floats = dict.fromkeys(params, optuna.distributions.FloatDistribution(0, 1))
    return optuna.trial.create_trial(params=params, distributions=floats, value=0.0)


@pytest.mark.parametrize("name", REPLAYS)
def test_the_published_search_has_one_objective_and_as_many_trials_as_the_front(name):
    published, front = composed(name, REPLAYS[name].words), composed(name, [])
    assert published.goal.mode == BEST
    assert len(front.goal.directions) == 2
    assert published.typed.search.n_trials == front.typed.search.n_trials
    held = {dimension.path for dimension in front.space.dimensions} - {d.path for d in published.space.dimensions}
    assert held <= {"pruner.budget.mean_tokens"}


def test_vflowopt_reads_no_label_and_cuts_where_it_does():
    experiment = composed("vflowopt", [])
    assert experiment.goal.score == "cosine"
    kept = experiment.pruner({"pruner.policy.keep": [0.3, 0.2, 0.1]}).policy
    assert [round(depth * 28) for depth in kept.depths] == [0, 9, 18]


def test_ai4ai_changes_scorer_and_recovery_of_cdpruner():
    experiment = composed("ai4ai", REPLAYS["ai4ai"].words)
    assert {group.path for group in experiment.space.groups} == {"scorer", "recovery"}
    assert experiment.pruner().budget.mean_tokens == 8


def test_a_penalty_counts_what_stays():
    replay = REPLAYS["prune2drive"]
    assert replay.number(trial(**{"pruner.policy.keep": 0.5}), 0.9) == pytest.approx(0.9 - 0.18 * 0.5)
    assert REPLAYS["ai4ai"].number(trial(x=0.5), 0.9) == 0.9


def test_no_search_of_one_number_stops_a_trial(monkeypatch):
    monkeypatch.setattr(Objective, "of", lambda *_: told)
    scores = iter([0.9, 0.8, *np.linspace(0.5, 0.1, 10)])

    def told(trial):
        trial.report(score := float(next(scores)), step=0)
        if trial.should_prune():
            raise optuna.TrialPruned
        trial.set_user_attr(COST, 0.2)
        trial.set_user_attr(PRUNER, "")
        return (score,)

    found = searched(composed("ai4ai", REPLAYS["ai4ai"].words), REPLAYS["ai4ai"], None, 12)
    assert len(found.scores) == 12


def test_what_is_chosen_is_the_best_within_the_cost():
    found = Found([0.2, 0.4, 0.3], [0.5, 0.9, 0.7], [0.45, 0.4, 0.6], [None] * 3)
    assert found.best() == 2
    assert found.best(0.3) == 2
    assert found.best(0.25) == 0
    assert found.best(0.1) == 0  # the cheapest


def line(arm, seed, scores, replay="prune2drive"):
    known = {"replay": replay, "seed": seed, "arm": arm, "trials": 4, "ran": 4, "flops_ratio": 0.3}
    return known | {"score": 0.5, "area": 0.2, "report_flops_ratio": 0.3, "report": scores}


def test_the_table_averages_seeds_and_differs_from_the_published_search():
    worse, better = {"a": [0.0, 1.0], "b": [1.0, 1.0]}, {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    lines = [line(arm, seed, worse if arm == PUBLISHED else better) for seed in (0, 1) for arm in (PUBLISHED, FRONT)]
    first, second = summarise(lines)
    assert (first["search"], first["seeds"], first["report"]) == (PUBLISHED, 2, 0.75)
    assert second["report"] == 1.0
    assert second["difference"] == pytest.approx(0.25)
    assert second["difference_low"] <= 0.25 <= second["difference_high"]
    shown = text([first, second]).splitlines()
    assert BOUNDED not in shown[2]
    assert "+0.250 [" in shown[3]
    assert np.isfinite(first["low"])
