"""What samples need, by replaying them; and a study that calibrates its own estimator, once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
import yaml
from fake_evaluator import NO_ARMS, SMALL, FakeEvaluator, refused

from autoprune_lab.evidence.calibration import SampleNeeds
from autoprune_lab.evidence.needed_depth import NeededDepth
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection import scorers
from autoprune_lab.statistics.replay import Replay
from policies.staircase_table import StaircaseTablePolicy
from search.cli import main
from search.config.compose import compose
from search.config.experiment import Experiment
from search.config.identity import difference, made_of
from search.config.schema import CalibrationSettings
from search.results.folder import load_optuna_study
from search.results.study_result import StudyResult
from search.study import calibration
from search.study.calibrator import NUMBERS
from search.study.objective import Objective

NAN = float("nan")
PRUNER = Pruner(StaircaseTablePolicy(), complexity=NeededDepth(), probe_layer=1)
SETTINGS = CalibrationSettings(labels=True, depths=4, fractions=[0.25, 0.5])
SHORT = ["calibration.depths=3", "calibration.fractions=[0.25]", "calibration.labels=false", "task.per_kind=3"]
FIGURES = "pruner.complexity.figures=[mutual_information,last_row_mass]"


def needs(monkeypatch, right, agrees, n_vision, pruner=PRUNER, settings=SETTINGS, n_layers=8):
    """Measured needs where the answers along the curves are these, and the curves that were asked for."""
    asked = []

    def replay(evaluator, given, curves):
        asked.extend(curves)
        ones = np.ones(right.shape)
        return Replay(tuple(curves), right, agrees, ones, ones)

    monkeypatch.setattr(calibration, "replay", replay)
    geometries = [replace(SMALL, n_layers=n_layers, n_vision=n) for n in n_vision]
    prepared = SimpleNamespace(samples=[SimpleNamespace(kind=f"kind{i}") for i in range(len(n_vision))])
    evaluator = SimpleNamespace(geometries=geometries, prepared=prepared)
    return calibration.measure_needs(evaluator, pruner, settings), asked


def test_needs_are_the_least_depth_and_the_least_tokens(monkeypatch):
    right = np.array([
        [0, 0, 1, 1, 0, 1, 1],  # depths 2, 4, 6, 8; fractions 1/4, 1/2, 1
        [1, 1, 1, 1, 1, 1, 1],
        [0, 1, 0, 1, 1, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1],
    ], dtype=bool)  # fmt: skip
    found, asked = needs(monkeypatch, right, ~right, (100, 40, 100, 100, 0))
    assert found.depth.tolist()[:3] == [6, 2, 8]
    assert found.tokens.tolist()[:3] == [50, 10, 100]
    assert found.known.tolist() == [True, True, True, False, False]  # never right; without a picture
    assert [sum(curve) for curve in asked] == [2, 4, 6, 8, 2 + 6 / 4, 2 + 6 / 2, 8]
    assert all(curve[:2] == (1, 1) for curve in asked)  # up to the probe


def test_without_labels_the_unpruned_answer_is_what_must_survive(monkeypatch):
    right = np.zeros((1, 7), dtype=bool)
    agrees = np.array([[False, True, True, True, False, True, True]])
    found, _ = needs(monkeypatch, right, agrees, (100,), settings=replace(SETTINGS, labels=False))
    assert (found.depth.tolist(), found.tokens.tolist()) == ([4], [50])


def test_behind_an_opening_needs_are_parts_of_what_it_leaves(monkeypatch):
    opened = replace(PRUNER, budget=MeanBudget(mean_tokens=6, opening=32))
    found, _ = needs(monkeypatch, np.ones((2, 7), dtype=bool), np.ones((2, 7), dtype=bool), (100, 20), opened)
    assert found.tokens.tolist() == [8, 5]


@pytest.mark.parametrize(
    ("n_layers", "free_from", "most", "depths"),
    [(4, 0, 9, [0, 1, 2, 3, 4]), (16, 2, 3, [2, 9, 16]), (4, 4, 5, [4]), (8, 2, 1, [2])],
)
def test_depths_are_spread_from_the_first_free_one_to_all(n_layers, free_from, most, depths):
    assert calibration.depths_of(n_layers, free_from, most) == depths


@pytest.fixture
def words(checkpoint):
    study = ["study=own", "search.n_trials=2", "report.task.per_kind=1", "report.points=1", *NO_ARMS]
    model = [f"model.path={checkpoint}", "model=path", "complexity=needed_depth", FIGURES, "tracking=none"]
    return [*model, *SHORT, *study, "policy=staircase_table", "pruner.policy.edges=[2,3]"]


@pytest.mark.usefixtures("undrawn")
def test_a_study_calibrates_once_and_every_trial_holds_the_numbers(here, words, capsys, monkeypatch):
    assert main(["study", *words]) == 0
    said = capsys.readouterr().err
    assert "calibrating: 24 samples along 4 curves" in said
    assert "NeededDepth calibrated at layer 1 on 16 samples; on 8 others: Spearman" in said
    kept = [node for key, node in load_optuna_study(here / "runs/own").user_attrs.items() if key.startswith(NUMBERS)]
    ran = [node["complexity"] for node in StudyResult.read(here / "runs/own").pruners.values()]
    assert ran == kept * 2
    assert (kept[0]["layer"], len(kept[0]["weights"])) == (1, 2)
    for file in (here / "runs/own/tuned").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["complexity"] == kept[0]
        assert Pruner.load(file).complexity.ready

    def again(*_):
        raise AssertionError("calibrated a second time")

    monkeypatch.setattr(calibration, "calibrate", again)
    assert main(["study", *words, "search.n_trials=3"]) == 0
    assert [node["complexity"] for node in StudyResult.read(here / "runs/own").pruners.values()] == kept * 3
    capsys.readouterr()
    refused(["study", *words, "calibration.depths=4"], ["calibration.depths was 3, now 4"], capsys, here)


def test_each_probe_layer_and_opening_has_numbers_of_its_own(monkeypatch):
    experiment = Experiment.compose(["complexity=needed_depth", FIGURES, "policy=staircase_table"])
    study, asked = optuna.create_study(), []

    def calibrate(evaluator, pruner, settings):
        asked.append((pruner.probe_layer, pruner.opening))
        figures, told = torch.rand(9, 2), SampleNeeds(np.arange(9.0) + len(asked), np.ones(9), 16)
        fitted = pruner.complexity.calibrated(figures, told, pruner.probe_layer)
        return calibration.Calibration(fitted, calibration.Quality(0.0, 0.0, 0.5, 0.0), None, 6, 3, 0, told)

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    opened = MeanBudget(mean_tokens=6, opening=32)
    changes = [
        {},
        {"probe_layer": 2},
        {"budget": opened},
        {"scorer": scorers.random},
        {"policy": StaircaseTablePolicy()},
    ]
    pruners = [replace(experiment.pruner(), **change) for change in changes]
    found = []
    for _ in range(2):  # the second one as after a restart
        calibrator = Objective.of(experiment, FakeEvaluator()).calibrator
        found += [calibrator(study, pruner) for pruner in pruners]
    assert asked == [(1, None), (2, None), (1, 32)]
    assert [pruner.complexity.layer for pruner in found[:5]] == [1, 2, 1, 1, 1]
    assert [found[0].complexity == pruner.complexity for pruner in found[:5]] == [True, False, False, True, True]
    assert found[5:] == found[:5]
    assert all(replace(made, complexity=PRUNER.complexity) == replace(pruner, complexity=PRUNER.complexity)
               for made, pruner in zip(found, pruners * 2, strict=True))  # fmt: skip


def test_a_study_of_before_there_was_calibration_goes_on():
    then = made_of(compose(["policy=fixed"]))
    old = {key: value for key, value in then.items() if not key.startswith("calibration.")}
    assert old != then
    assert difference(old, then) == ""
    assert difference(then, then | {"calibration.depths": 3}) == "calibration.depths was None, now 3"


@pytest.mark.parametrize(
    ("command", "words"),
    [("evaluate", ["complexity=needed_depth"]), ("evaluate", ["complexity=kind_of_need", "policy=staircase_blend"])],
)
def test_a_command_that_fits_nothing_names_the_one_that_does(command, words, here, capsys, no_model):
    refused([command, "task.per_kind=1", *words], ["is not calibrated: autoprune calibrate writes"], capsys, here)


def test_a_reports_arm_is_not_fitted(here, capsys, no_model):
    arm = '+report.arms.deep=["policy=staircase_table","complexity=needed_depth"]'
    refused(["study", "task.per_kind=1", arm], ["report.arms.deep: NeededDepth is not calibrated"], capsys, here)


def test_a_policy_that_reads_no_number_needs_none(checkpoint):
    pruner = Experiment(compose(["complexity=needed_depth", "policy=fixed"])).pruner()
    assert not pruner.complexity.ready
    assert pruner.plan(np.zeros(1), [SMALL]).tokens.shape == (1, 16)


def test_every_third_sample_of_a_kind_is_held_out():
    assert calibration.held_out(list("aabababb")).tolist() == [False, False, False, True, False, False, True, False]
    assert calibration.held_out([]).shape == (0,)
