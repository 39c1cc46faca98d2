"""The recorded objective and the comparison of searches on it."""

from pathlib import Path

import numpy as np
import pytest

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from benchmarks.recorded import Recorded
from benchmarks.search import DATA, one_study, summarise
from policies.logistic_adaptive import LogisticAdaptivePolicy

LAST = "autoprune_lab.selection.scorers.last_token_attention"


@pytest.fixture(scope="module")
def recorded():
    return Recorded.read(Path(__file__).parents[3] / DATA)


def test_a_left_out_setting_is_foretold(recorded):
    error, left = recorded.left_out_error()
    assert error < 0.03
    assert left < 0.1


def test_a_recorded_plan_has_about_its_recorded_scores(recorded):
    place = int(np.flatnonzero(recorded.scorers == LAST)[0])
    near = recorded.interpolate(recorded.tokens[place], LAST)
    assert np.abs(near - recorded.scores[place]).mean() < 0.03


def test_the_cost_is_the_plan_s(recorded):
    outcome = recorded.run(Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.4)))
    assert 0.399 < outcome.flops_ratio <= 0.4
    assert outcome.score == pytest.approx(np.mean(list(outcome.by_kind().values())))


def test_a_study_on_the_record_is_repeatable(recorded):
    words = ["search=random"]
    rows = [one_study(recorded, words, seed, [4, 8]) for seed in (0, 0, 1)]
    for key in ("hypervolume@4", "hypervolume@8"):
        assert rows[0][key] == rows[1][key] != rows[2][key]
    assert 0 < rows[0]["hypervolume@4"] <= rows[0]["hypervolume@8"] < 0.26


def test_arms_are_compared_seed_by_seed():
    figures = {"tpe, 10 random first": [0.2, 0.3, 0.25, 0.27, 0.28], "random": [0.1, 0.2, 0.15, 0.17, 0.18]}
    rows = [
        {"arm": arm, "seed": seed, "hypervolume@8": value, "feasible": 1.0, "seconds": 1.0}
        for arm, values in figures.items()
        for seed, value in enumerate(values)
    ]
    first, other = summarise(rows, [8])
    assert (first["p@8"], other["seeds"]) == (None, 5)
    assert other["hypervolume@8"] == pytest.approx(0.16)
    assert other["p@8"] == pytest.approx(2 / 2**5)
