"""Every experiment that ships is one: parts that can be built, arms, and a first trial inside its space."""

import pytest

from search.config.catalogue import options_of
from search.config.experiment import Experiment


@pytest.mark.parametrize("name", options_of("experiment"))
def test_it_composes_with_its_baselines_inside_its_space(name):
    experiment = Experiment.compose([f"experiment={name}"])
    assert experiment.typed.search.n_trials > 0
    assert all(arm.probe_layer == experiment.pruner().probe_layer for arm in experiment.arms.values())
    paths = {dimension.path for dimension in experiment.space.dimensions}
    for baseline in experiment.baselines:
        assert set(baseline) <= paths
        experiment.pruner(baseline)


def test_crowded_scenes_are_compared_with_one_curve_for_all_and_with_pdrop():
    experiment = Experiment.compose(["experiment=crowded"])
    assert set(experiment.arms) == {"fixed", "pdrop"}
    budgets = [baseline["pruner.budget.flops_ratio"] for baseline in experiment.baselines]
    assert budgets == experiment.typed.report.ratios
