"""Searches on problems whose front is known: the shipped grid, its front, and how regret is reckoned."""

import json
import math

import numpy as np
import optuna
import pytest

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prompts import prepare
from autoprune_lab.fronts.front import ParetoFront
from benchmarks.front_grid import COST, WORLDS, answer, composed, read, settings, table_of
from benchmarks.problems import Grid
from benchmarks.search import draw, joined, one_study, regrets, show, studies_of, summarise, trials_until
from search.study.model_evaluator import ModelEvaluator

WORLD = "shapes"
TRUTH = ParetoFront.of([0.1], [1.0])  # hypervolume 0.4


def study_row(arm, seed, *hypervolumes, problem="p"):
    known = {"problem": problem, "arm": arm, "seed": seed, "hypervolume": list(hypervolumes)}
    return known | {"front": [[0.1, 0.5]], "ran": 1.0, "seconds": 1.0}


@pytest.mark.parametrize("world", WORLDS)
def test_a_table_has_every_setting_once_and_no_score_over_the_bound(world):
    rows, wanted = read(table_of(world)), list(settings(composed(world).space))
    assert len(rows) == len(wanted) == 2250
    assert [[row[path] for path in wanted[0]] for row in rows] == [list(map(str, one.values())) for one in wanted]
    assert all((float(row[COST]) > 0.5) == (row["exist"] == "") for row in rows)


@pytest.mark.parametrize("world", WORLDS)
def test_a_row_is_what_the_model_answers(world):
    experiment = composed(world)
    row = {"pruner.policy.depths.0": "0.1875", "pruner.policy.keep.0": "0.2", "pruner.policy.keep.1": "0.05"}
    row = next(one for one in read(table_of(world)) if row.items() <= one.items())
    values = {
        d.path: row[d.path] if d.type == "categorical" else float(row[d.path]) for d in experiment.space.dimensions
    }
    prepared = prepare(experiment.model, experiment.task)
    pruner = experiment.pruner(values)
    records = evaluate(experiment.model, prepared, pruner)
    told = {COST: records.flops_ratio} | dict(records.by_kind())
    assert told == pytest.approx({name: float(row[name]) for name in told}, abs=1e-12)
    asked = answer(ModelEvaluator(experiment.model, prepared), pruner, 0.1)  # over this bound: arithmetic alone
    assert asked == {COST: pytest.approx(told[COST])}


def test_a_study_on_a_grid_is_told_the_table_and_no_study_passes_its_front():
    problem = Grid(WORLD)
    whole = problem.truth().hypervolume(0.5)
    row = one_study(problem, ["search=random"], 0, 12)
    assert row == one_study(problem, ["search=random"], 0, 12) | {"seconds": row["seconds"]}
    assert 0 < row["hypervolume"][0] <= row["hypervolume"][-1] < whole
    assert joined(problem.truth(), [row]).points.tolist() == problem.truth().points.tolist()
    study = optuna.create_study(directions=["minimize", "maximize"])
    experiment = problem.experiment()
    dear = {"depths.0": 0.375, "depths.1": 0.75, "keep.0": 0.3, "keep.1": 0.1}
    chosen = {"pruner.scorer._target_": "autoprune_lab.selection.scorers.uniform"}
    study.enqueue_trial({f"pruner.policy.{name}": value for name, value in dear.items()} | chosen)
    study.optimize(problem.objective(experiment), n_trials=1)
    assert study.trials[0].state == optuna.trial.TrialState.PRUNED
    assert 0 < study.trials[0].constraints["bound"] < 0.1


def test_regret_is_the_part_of_the_front_that_is_missing():
    rows = [study_row("tpe", 0, 0.2, 0.398, 0.4), study_row("tpe", 1, 0.3, 0.3, 0.39)]
    regret = regrets(rows, TRUTH)
    np.testing.assert_allclose(regret, [[50, 0.5, 0], [25, 25, 2.5]], atol=1e-9)
    assert trials_until(regret[:1]) == 2
    assert trials_until(regret) == math.inf


def test_arms_are_compared_seed_by_seed_and_drawn():
    figures = {"tpe": [0.2, 0.3, 0.25, 0.27, 0.28], "random": [0.1, 0.2, 0.15, 0.17, 0.18]}
    rows = [study_row(arm, seed, 0.0, value) for arm, values in figures.items() for seed, value in enumerate(values)]
    first, other = summarise(rows, {"p": TRUTH}, [2])
    assert (first["p@2"], other["seeds"], other["within 1 %"]) == (None, 5, None)
    assert other["regret@2"] == pytest.approx(60)
    assert other["p@2"] == pytest.approx(0.0625)
    assert len(draw(rows, {"p": TRUTH}).axes[0].lines) == 3


def test_a_study_that_is_shorter_has_no_figures_beyond_its_end(capsys):
    rows = [study_row("tpe", seed, 0.1, 0.2, 0.3) for seed in (0, 1)]
    rows += [study_row("botorch", seed, 0.2, 0.3 + seed / 100) for seed in (0, 1)]
    table = summarise(rows, {"p": TRUTH}, [2, 3])
    tpe, botorch = table
    assert botorch["regret@2"] == pytest.approx(23.75)
    assert [botorch[f"{figure}@3"] for figure in ("regret", "sd", "p")] == [None] * 3
    assert tpe["regret@3"] == pytest.approx(25)
    show(table, [2, 3])
    assert capsys.readouterr().out.splitlines()[-1].split()[6:9] == ["-", "-", "-"]
    assert len(draw(rows, {"p": TRUTH}).axes[0].lines) == 3


def test_studies_are_kept_where_data_are_new_and_run_again_where_they_are_others(tmp_path):
    file = tmp_path / "search.json"
    assert studies_of(file, {"trials": 80}) == studies_of(None, {}) == {"truths": {}, "studies": []}
    held = {"made_of": {"trials": 80, "a.csv": "1"}, "truths": {}, "studies": [study_row("tpe", 0, 0.2)]}
    file.write_text(json.dumps(held))
    assert studies_of(file, {"trials": 80, "a.csv": "1", "b.csv": "2"}) == held
    assert studies_of(file, {"trials": 80, "a.csv": "2"})["studies"] == []
    assert studies_of(file, {"trials": 40, "a.csv": "1"})["studies"] == []
