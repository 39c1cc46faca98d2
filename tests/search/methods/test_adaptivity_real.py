"""`experiment=adaptivity_real` on a tiny checkpoint and tiny files of the real layouts."""

import layouts
import numpy as np
import pandas as pd
import pytest
from toys import save_toy

from autoprune_lab.schedule.geometry import Geometry
from search.cli import main
from search.config.experiment import Experiment
from search.methods.adaptivity import ADAPTIVE, CONSTANT, Bench
from search.study.preflight import check_study


@pytest.fixture
def words(tmp_path):
    """The experiment with another checkpoint, other folders, and an opening that drops some of 16 tokens."""
    model = ["model=path", f"model.path={save_toy('llava', tmp_path / 'llava')}", "pruner.budget.opening=12"]
    return ["experiment=adaptivity_real", *model, *layouts.several_words(tmp_path / "data")]


def test_of_the_whole_experiment_nothing_is_in_bits_or_layers():
    experiment = Experiment.compose(["experiment=adaptivity_real"])
    pruner = experiment.pruner()
    assert experiment.typed.model["path"] == "llava-hf/llava-1.5-7b-hf"
    assert list(experiment.settings.config["task"]["tasks"]) == ["pope", "gqa", "textvqa"]
    assert (pruner.budget.mean_tokens, pruner.budget.flops_ratio, pruner.opening) == (128, None, 192)
    assert pruner.probe_layer == 2
    assert pruner.opening_scorer.__name__ == "max_min_diversity"
    searched = {dimension.path for dimension in experiment.space.dimensions}
    assert not any(path.startswith(("pruner.scorer", "pruner.policy.edges")) for path in searched)
    twins = Bench(experiment).twins(64)
    assert {twin.pruner().budget.mean_tokens for twin in twins.values()} == {64}
    row = {"pruner.policy.depths.0.1", "pruner.policy.keep.0.0", "pruner.policy.keep.0.1"}
    assert {d.path for d in twins[CONSTANT].space.dimensions} == row
    assert {d.path for d in twins[ADAPTIVE].space.dimensions} == {
        path.replace(".0.", f".{i}.", 1) for path in row for i in range(3)
    }


def test_every_trial_of_the_study_can_be_planned_for_llava():
    """At 576 visual tokens and 32 layers, for the shortest prompts and for long ones, whatever the budget."""
    experiment = Experiment.compose(["experiment=adaptivity_real"])
    sizes = {"n_layers": 32, "hidden": 4096, "intermediate": 11008, "n_heads": 32, "n_kv_heads": 32, "head_dim": 128}
    prompts = [Geometry(**sizes, n_vision=576, n_text=n_text) for n_text in (40, 500)]
    for _, changes in experiment.space.corners():
        pruner = experiment.pruner(changes)
        tokens = pruner.plan(np.zeros(2), prompts).tokens
        assert (tokens[:, :3] == 192).all()
        assert (tokens[:, 3:].sum(axis=1) + 3 * 192 <= 32 * pruner.budget.mean_tokens).all()


def test_a_study_of_it_passes_every_check(words, here, no_model):
    bound = ["budget.mean_tokens=12", "space.pruner.budget.mean_tokens.low=8"]
    check_study(Experiment.compose([*words, *bound]))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("adaptivity", "3 budgets inside the window of the needs, 2 x 60 trials each"),
        ("calibrate", "samples of pope+gqa+textvqa, along up to 16 depths and 9 token counts"),
    ],
)
def test_a_dry_run_loads_no_model(command, said, words, here, capsys, no_model):
    assert main([command, *words, "--dry-run"]) == 0
    assert said in capsys.readouterr().out
    assert not (here / "runs").exists()


def test_the_whole_command_runs(words, here, capsys, monkeypatch):
    """On one token of answer: random weights keep a longer one along no curve, and nothing could be calibrated."""
    monkeypatch.setattr("autoprune_lab.tasks.benchmark.Benchmark.max_new_tokens", 1)
    few = ["task.per_kind=6", "report.task.per_kind=3", "search.n_trials=1", "tracking=none"]
    calibration = ["calibration.depths=3", "calibration.fractions=[0.25]", "calibration.labels=false"]
    argv = ["adaptivity", *words, *few, *calibration, "--grid", "2", "--budgets", "1", "--shuffles", "1"]
    assert main(argv) == 0
    assert "best fixed curve" in capsys.readouterr().out
    place = here / "runs" / "adaptivity_real-adaptivity"
    needs, arms = pd.read_csv(place / "needs.csv"), pd.read_csv(place / "arms.csv").set_index("arm")
    assert list(needs["kind"])[:3] == ["pope", "gqa", "textvqa"]
    assert arms.loc["unpruned", "mean_tokens"] == 16
    assert set(arms["unit"]) == {"mean_tokens"}
    least = 12 * 3 / 6  # what the opening leaves, in three of six layers
    assert (arms["mean_tokens"].drop("unpruned") >= least).all()
    assert arms["mean_tokens"].drop("unpruned").max() <= arms["budget"].iloc[0] + 1e-9
    assert (place / "arms.png").is_file()
