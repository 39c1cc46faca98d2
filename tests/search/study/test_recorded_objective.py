"""The recorded objective, and studies on it."""

import numpy as np
import pytest

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from benchmarks.problems import DATA, Default
from benchmarks.recorded import Recorded
from benchmarks.search import one_study
from policies.logistic_adaptive import LogisticAdaptivePolicy

LAST = "autoprune_lab.selection.scorers.last_token_attention"


@pytest.fixture(scope="module")
def recorded():
    return Recorded.read(DATA)


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
    rows = [one_study(Default(), ["search=random"], seed, 8) for seed in (0, 0, 1)]
    assert rows[0]["hypervolume"] == rows[1]["hypervolume"] != rows[2]["hypervolume"]
    assert 0 < rows[0]["hypervolume"][3] <= rows[0]["hypervolume"][7] < 0.26
