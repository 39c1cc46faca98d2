"""A study of opened pruners, below the floor of those that do not open."""

import pytest
from fake_evaluator import FakeEvaluator, refused

from autoprune_lab.schedule.budget import BudgetError
from search.cli import main
from search.config.experiment import Experiment
from search.results.study_result import StudyResult
from search.study.objective import Objective
from search.study.preflight import check_study

OPENING = "+space.pruner.budget.opening={type: categorical, choices: [8, 0.25]}"
WORDS = ["pruner.probe_layer=2", "+scorer@pruner.opening_scorer=feature_norm", "study=opened"]
LOW = ["budget.flops_ratio=0.17", "space.pruner.budget.flops_ratio.low=0.165"]


def test_an_opening_is_searched_like_any_field():
    import optuna

    experiment = Experiment.compose([*WORDS, OPENING, "search.n_trials=2"])
    objective, seen = Objective.of(experiment, FakeEvaluator()), {}
    for opening in (8, 0.25):
        values = {d.name: d.ends()[0] for d in experiment.space.dimensions} | {
            "pruner.budget.opening": opening, "pruner.budget.flops_ratio": 0.3,
        }  # fmt: skip
        trial = optuna.trial.FixedTrial(values)
        objective(trial)
        seen[opening] = trial.user_attrs["pruner"]["budget"]["opening"]
    assert seen == {8: 8, 0.25: 0.25}
    ran = [pruner.budget.opening for pruner in objective.evaluator.runs]
    assert ran == [8, 0.25]


def test_a_bound_below_the_floor_is_reachable_with_an_opening(checkpoint):
    words = [f"model.path={checkpoint}", "task.per_kind=1", "model=path", *WORDS, *LOW]
    with pytest.raises(BudgetError, match="unreachable"):
        check_study(Experiment.compose(words))
    check_study(Experiment.compose([*words, OPENING]))


@pytest.mark.usefixtures("undrawn")
def test_a_study_and_its_arms_open_alike_and_meet_the_bound(here, checkpoint):
    words = [f"model.path={checkpoint}", "model=path", "task.per_kind=1", "report.task.per_kind=1", "search.n_trials=2"]
    low = [f"{path}=0.17" for path in ("budget.flops_ratio", "pruner.budget.flops_ratio")] + ["report.ratios=[0.17]"]
    assert main(["study", *words, *WORDS, *low, "tracking=none", "pruner.budget.opening=48"]) == 0
    result = StudyResult.read(here / "runs" / "opened")
    done = result.trials[result.trials["state"] == "complete"]
    assert len(done) == 2
    assert done["flops_ratio"].between(0.168, 0.17).all()
    assert [pruner["budget"]["opening"] for pruner in result.pruners.values()] == [48, 48]
    assert not result.report["score"].isna().any()  # without an opening 0.17 is out of reach
    assert result.report.loc[result.report["arm"] != "unpruned", "flops_ratio"].max() <= 0.17


def test_an_opening_without_a_scorer_that_sees_is_told_in_a_line(here, checkpoint, capsys):
    words = ["evaluate", f"model.path={checkpoint}", "model=path", "task.per_kind=1", "pruner.budget.opening=8"]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "no attention to go by" in said[-1]
    assert "for an opening: opening_scorer" in said[-1]
    refused([*words, "pruner.probe_layer=-1"], ["probe_layer=-1 with an opening before layer 0"], capsys, here)
