"""A study of the driving experiment, on an untrained narrow model: every part of the line but the skill."""

from dataclasses import replace

import optuna
import pandas as pd
import pytest
from fake_evaluator import NO_ARMS, refused
from PIL import Image

from autoprune_lab.evaluation.evaluate import read_decisions
from autoprune_lab.metrics.closed_loop import Drive
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.driving.layout import layout
from search.cli import main
from search.config.experiment import Experiment
from search.results.page.data import Source
from search.results.study_result import StudyResult
from search.study import model_evaluator
from search.study.model_evaluator import open_evaluator
from search.study.objective import PRUNER, Objective


@pytest.fixture(scope="module")
def novice(tmp_path_factory):
    """A checkpoint of the driving layout that has learned nothing."""
    folder = tmp_path_factory.mktemp("novice")
    small = layout(n_layers=6, hidden=16)
    build_untrained(small, 0).save_pretrained(folder)
    build_processor(small).save_pretrained(folder)
    return folder


def words(novice, *more, episodes=("=null",)):
    few = ["task.per_kind=1", "report.task.per_kind=1", "report.ratios=[0.5]", "report.points=1", *NO_ARMS]
    few += [f"report.episodes{word}" for word in episodes]
    return ["experiment=driving", f"model.path={novice}", "budget.flops_ratio=0.7", "tracking=none", *few, *more]


def test_three_trials_choose_shares_of_the_views(novice, here, capsys):
    assert main(["study", *words(novice, "search.n_trials=3")]) == 0
    result = StudyResult.read(here / "runs" / "driving")
    assert len(result.trials) == 3
    assert result.trials["pruner.scorer.shares.0"].nunique() > 1
    (tuned,) = sorted((here / "runs" / "driving" / "tuned").glob("*.yaml"))[:1]
    scorer = Pruner.load(tuned).scorer
    assert scorer.func is per_view
    assert scorer.keywords["shares"][1] == 1.0
    assert "runs/driving/tuned" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_a_figure_over_its_limit_keeps_a_trial_off_the_front(novice, here):
    """The novice's answers are no plans: a limit on those is broken by every trial, the one on collisions by none."""
    main(["study", *words(novice, "search.n_trials=2", "+search.limits.unreadable=0.5")])
    assert not StudyResult.read(here / "runs" / "driving").trials["feasible"].any()


def test_a_limit_on_a_figure_that_driving_does_not_have_is_refused(novice, here, capsys):
    assert main(["study", *words(novice, "+search.limits.crashes=0.1")]) == 2
    assert "collision_rate" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_study_in_the_open_loop_is_reported_in_the_closed_one(novice, here):
    few = ["+report.task.seconds=1.0", "search.n_trials=2", "experiment=driving_closed_loop"]
    assert main(["study", *words(novice, *few)[1:]]) == 0
    result = StudyResult.read(here / "runs" / "driving_closed_loop")
    assert result.report["score"].between(0, 1).all()
    assert result.config["task"]["_target_"].endswith("DrivingTask")


def test_a_study_ends_with_a_table_of_drives_and_a_film(novice, here, capsys):
    arms = ["+report.arms.random=['policy=fixed','scorer=random']", "+report.arms.late=['policy=withdrawal']"]
    given = words(novice, "search.n_trials=2", *arms, episodes=[".per_kind=1", ".seconds=1.0"])
    assert main(["study", *given]) == 0
    last = capsys.readouterr().out.partition("episodes of a closed loop")[2]
    assert all(said in last for said in ("unpruned", "random", "success_rate", "collision_rate", "episode.gif"))
    result = StudyResult.read(here / "runs" / "driving")
    table = result.episodes.set_index("arm")
    assert list(table.index) == ["unpruned", "front", "random", "late"]
    assert table.loc["front", "trial"] == int(result.front.labels[result.front.knee()])
    assert table.loc["random", "flops_ratio"] == pytest.approx(table.loc["front", "flops_ratio"], abs=0.01)
    assert (table["figure/unreadable"] == 1).all()  # the novice stands still
    outcomes = pd.read_parquet(result.folder / "episodes_records.parquet")
    assert len(outcomes) == 4 * 6
    assert all(Drive.read(outcome).seconds == 1.0 for outcome in outcomes["outcome"])
    with Image.open(result.folder / "episode.gif") as film:
        assert film.n_frames == 2  # decisions
    page = Source.find(result.folder).data()["episodes"]
    assert (page["n"], page["film"]["id"]) == (6, "report-turn-0")
    assert page["film"]["uri"].startswith("data:image/gif")
    assert page["rows"][1]["figures"]["seconds"] == 1.0


def test_what_is_played_at_the_end_is_a_closed_loop_that_no_trial_sees(novice, here, capsys):
    opened = ["._target_=autoprune_lab.tasks.driving.DrivingTask"]
    given = words(novice, "~report.episodes.seconds", episodes=opened)
    refused(["study", *given], ["report.episodes", "driving answers once a sample"], capsys, here)
    given = words(novice, "task=driving_closed_loop", episodes=[".split=tune"])
    refused(["study", *given], ["report.episodes.split=report"], capsys, here)
    refused(["study", *words(novice, episodes=[".per_kind=0"])], ["report.episodes", "at least 1"], capsys, here)


@pytest.mark.usefixtures("undrawn")
def test_trials_may_drive_and_collisions_bind(novice, here, capsys):
    closed = ["task=driving_closed_loop", "task.seconds=0.5", "+report.task.seconds=0.5", "search.n_trials=2"]
    assert main(["study", *words(novice, *closed, "policy=logistic_adaptive", "space=logistic_adaptive")]) == 0
    trials = StudyResult.read(here / "runs" / "driving").trials
    assert len(trials) == 2
    assert main(["study", *words(novice, *closed, "search.score=kl", "search.limits=null", "study=without")]) == 2
    assert "is a closed loop" in capsys.readouterr().err


def test_a_budget_in_the_mean_over_drives_knows_every_decision_of_the_unpruned_model(novice, monkeypatch):
    reads = []

    def counted(*given):
        reads.append(given)
        return read_decisions(*given)

    monkeypatch.setattr(model_evaluator, "read_decisions", counted)
    given = words(novice, "task=driving_closed_loop", "task.seconds=2.5", "budget=mean", "budget.flops_ratio=0.7")
    experiment = Experiment.compose([*given, "policy=logistic_adaptive", "space=logistic_adaptive"])
    evaluator = open_evaluator(experiment.model, experiment.task, experiment.typed)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(Objective.of(experiment, evaluator), n_trials=2)
    assert len(reads) == 1  # both trials read the same number at the same layer
    pruner = experiment.stored_pruner(study.trials[0].user_attrs[PRUNER], "trial 0")
    bits, geometries = evaluator.prompts(experiment.pruner())
    assert len(bits) == len(geometries) == 6 * 5 > len(evaluator.geometries)
    asked = replace(pruner, budget=replace(pruner.budget, scale=None))
    assert asked.calibrated(bits, geometries).budget == pruner.budget
    assert evaluator.prompts(pruner)[1] is evaluator.geometries  # it knows all that it must
