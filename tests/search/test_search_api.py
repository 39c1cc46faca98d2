"""The door of search: what a user of Python takes from there."""

import subprocess
import sys

import optuna
from fake_evaluator import FakeEvaluator

import search
from autoprune_lab.pruner import Pruner
from policies.fixed import FixedPolicy


def test_every_public_name_is_there_and_explained():
    assert {"run", "load_study", "StudyResult", "Experiment"} <= set(search.__all__)
    for name in search.__all__:
        assert getattr(search, name).__doc__, name


def test_the_door_itself_loads_nothing_heavy():
    code = "import sys, search; print(*{'torch', 'optuna', 'hydra', 'mlflow', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_an_objective_needs_no_hydra():
    """Ten lines of Python: config and code are apart."""
    keep, layer = search.Dimension("keep", "float", 0.1, 0.9), search.Dimension("layer", "int", 1, 8)

    def pruner(values):
        return Pruner(FixedPolicy(**values))

    space, goal, bound = search.Space((keep, layer)), search.Goal(), search.BudgetSettings(flops_ratio=0.6)
    objective = search.Objective(pruner, space, goal, bound, FakeEvaluator())
    study = optuna.create_study(directions=goal.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=10)
    front = search.from_study(study)
    assert len(front.costs) > 1
    assert max(front.costs) <= 0.6


def test_nothing_of_hydra_is_loaded_for_an_objective():
    code = (
        "import sys, search; search.Objective, search.Space, search.Goal, search.from_study\n"
        "print(*{'hydra', 'omegaconf', 'mlflow'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
