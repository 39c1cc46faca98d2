"""`autoprune adaptivity` on a narrow model."""

import dataclasses

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from fake_evaluator import refused

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.statistics.adaptivity import AdaptivityReport
from autoprune_lab.statistics.contrast import Arms, Estimate
from autoprune_lab.statistics.needs import Need, Needs
from policies.fixed import FixedPolicy
from search.cli import main
from search.config.compose import compose
from search.config.experiment import Experiment
from search.config.paths import select
from search.methods import adaptivity_page as page
from search.methods.adaptivity import ADAPTIVE, CONSTANT, Bench, Compared, twin_words
from search.methods.ceiling import Arm, Bound


def test_both_twins_search_the_same_space_at_the_budget_itself():
    settings = compose(["policy=logistic_adaptive", "budget.flops_ratio=0.4", "complexity=attention_entropy", "seed=3"])
    adaptive, fixed = (compose(words) for words in twin_words(settings).values())
    assert adaptive.config["space"] == fixed.config["space"]
    assert select(adaptive.config, "space.pruner.budget.flops_ratio") is None
    ratio = "pruner.budget.flops_ratio"
    assert select(adaptive.config, ratio) == select(fixed.config, ratio) == 0.4
    assert adaptive.config["pruner"]["complexity"]["_target_"].endswith("attention_entropy")
    assert fixed.config["pruner"]["complexity"]["_target_"].endswith("constant")
    assert adaptive.typed.study != fixed.typed.study
    assert adaptive.typed.seed == fixed.typed.seed == 3


SMALL = ["task.per_kind=1", "report.task.per_kind=1", "search.n_trials=1", "tracking=none"]
LITTLE = ["--shuffles", "1", "--grid", "2", "--budgets", "1"]
ARMS = [
    "unpruned",
    "best fixed curve",
    "adaptive",
    "shuffled numbers",
    "told the mean",
    "oracle per kind, equal budgets",
    "oracle per kind, mean held",
    "hindsight per sample, equal budgets",
    "hindsight per sample, mean held",
]


def test_a_chosen_budget_is_in_visual_tokens_and_twins_are_named_by_it():
    settings = compose(["policy=complexity_spend", "budget=mean", "study=s"])
    for words, study in zip(twin_words(settings, 9.1).values(), ("s-9.1-adaptive", "s-9.1-constant"), strict=True):
        twin = Experiment.compose(words)
        assert (twin.pruner().budget.mean_tokens, twin.pruner().budget.flops_ratio) == (9.1, None)
        assert (twin.bound.mean_tokens, twin.bound.flops_ratio, twin.name) == (9.1, None, study)


@pytest.mark.parametrize("policy", ["staircase_table", "staircase_blend"])
def test_of_a_table_the_fixed_twin_searches_the_row_that_it_uses_alone(policy):
    twins = Bench(Experiment.compose([f"policy={policy}"])).twins()
    searched = {name: {d.path for d in twin.space.dimensions} for name, twin in twins.items()}
    row = {"pruner.policy.depths.0.1", "pruner.policy.keep.0.0", "pruner.policy.keep.0.1"}
    assert searched[CONSTANT] == row | {"pruner.scorer._target_"} < searched[ADAPTIVE]
    depths = [baseline["pruner.policy.depths.0.1"] for baseline in twins[CONSTANT].baselines]
    assert depths == [0.625, 0.4375]


def test_it_chooses_a_budget_and_tells_the_whole_truth(here, checkpoint, capsys):
    assert main(["adaptivity", f"model.path={checkpoint}", *SMALL, *LITTLE]) == 0
    first = capsys.readouterr().out
    needs = pd.read_csv(here / "runs/logistic_adaptive-adaptivity/needs.csv").set_index("kind")
    arms = pd.read_csv(here / "runs/logistic_adaptive-adaptivity/arms.csv").set_index("arm")
    assert list(arms.index) == ARMS
    assert all(f"\n{name}  " in first for name in ARMS)
    assert f"At {arms['budget'].iloc[0]:g} visual tokens:" in first
    assert needs.loc["mean need", "mean_tokens"] <= arms["budget"].iloc[0] <= needs.loc["envelope", "mean_tokens"]
    assert len(needs) == 8 + 2
    assert arms.loc["unpruned", "mean_tokens"] == 144
    assert (arms["mean_tokens"].drop("unpruned") <= arms["budget"].iloc[0] + 1e-9).all()
    assert Pruner.load(
        here / f"runs/logistic_adaptive-adaptivity/adaptive-{arms['budget'].iloc[0]:g}.yaml"
    ).policy.adaptive
    assert (arms.loc["best fixed curve", ["gain", "gain:low", "gain:high"]] == 0).all()
    budget = f"{arms['budget'].iloc[0]:g}"
    assert {place.name.removeprefix("logistic_adaptive-") for place in (here / "runs").glob("*-*")} == {
        f"{budget}-adaptive",
        f"{budget}-constant",
        "adaptivity",
    }


@pytest.mark.slow
def test_a_typed_budget_is_the_only_one_and_it_goes_on_where_it_was(here, checkpoint, capsys):
    argv = ["adaptivity", f"model.path={checkpoint}", *SMALL, "budget.flops_ratio=0.4", *LITTLE]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert "At FLOPs ratio 0.4:" in first
    files = {file: file.stat().st_mtime_ns for file in (here / "runs" / "cache").iterdir()}
    assert main(argv) == 0
    assert capsys.readouterr().out == first
    assert {file: file.stat().st_mtime_ns for file in (here / "runs" / "cache").iterdir()} == files
    arms = pd.read_csv(here / "runs/logistic_adaptive-adaptivity/arms.csv")
    assert (arms["flops_ratio"][1:] <= 0.4).all()
    assert {"logistic_adaptive-adaptive", "logistic_adaptive-constant"} < {x.name for x in (here / "runs").iterdir()}


def test_a_dry_run_loads_nothing_and_writes_nothing(here, checkpoint, capsys, no_model):
    assert main(["adaptivity", f"model.path={checkpoint}", "--dry-run"]) == 0
    assert "3 budgets inside the window of the needs, 2 x 160 trials each" in capsys.readouterr().out
    assert main(["adaptivity", f"model.path={checkpoint}", "budget.mean_tokens=30", "budget=tokens", "--dry-run"]) == 0
    assert "1 budget, as typed" in capsys.readouterr().out
    assert not list(here.iterdir())
    refused(["adaptivity", f"model.path={checkpoint}", "budget.flops_ratio=0.01", "--dry-run"], ["0.01"], capsys, here)


def compared(adaptive, oracle):
    """Two kinds of 100 samples; the best fixed curve answers half of each."""
    fixed = np.tile([0.0, 1.0], 100)
    scores = dict.fromkeys(ARMS, fixed) | {"adaptive": adaptive, "oracle per kind, equal budgets": oracle}
    nothing = Estimate(0.0, 0.0, 0.0)
    report = AdaptivityReport(Arms({}), nothing, nothing, nothing)
    arms = tuple(Arm(name, scores[name], 9.0, 0.12) for name in ARMS)
    pruner = Pruner(FixedPolicy(), Budget(mean_tokens=9.0))
    return Compared(Bound("mean_tokens", 9.0), ("a",) * 100 + ("b",) * 100, arms, report, pruner, pruner)


def test_the_last_line_is_the_share_of_the_headroom():
    half = np.tile([0.0, 1.0, 1.0, 1.0], 50)
    one = compared(half, np.ones(200))
    assert page.arms_text(one).splitlines()[-1].startswith("Share of the headroom: 50 % [4")
    frame = page.arms_frame([one]).set_index("arm")
    assert frame.loc["adaptive", "share_of_headroom"] == pytest.approx(0.5)
    assert frame.loc["adaptive", "gain"] == pytest.approx(0.25)
    assert frame["share_of_headroom"].isna().sum() == len(ARMS) - 1
    in_mean = dataclasses.replace(one, adaptive=Pruner(FixedPolicy(), MeanBudget(mean_tokens=9.0)))
    assert (
        page.arms_text(in_mean)
        .splitlines()[-1]
        .startswith("No headroom: oracle per kind, mean held over the best fixed curve: +0.0")
    )


def test_pictures_and_sentences_of_needs(tmp_path):
    kinds = tuple(Need(name, (1.0, x), 50 + 50 * x, 1.0, 2, 100 * x) for name, x in {"a": 0.1, "b": 0.5}.items())
    needs = Needs((*kinds, Need("c", (1.0, 0.5), 75.0, 0.5, 2, 50.0, met=False)), 100.0)
    assert "mean need 68.3 to envelope 75.0" in page.window_text(needs)
    assert page.window_text(needs).endswith("No curve of the grid keeps 96.7 % of c.")
    assert "0.500 (unmet)" in page.needs_text(needs)
    assert page.window_text(Needs(kinds[:1], 100.0)).startswith("All kinds need the same curve, of 55.0 mean visual")
    figure = page.draw_needs(needs, [69.0], tmp_path / "needs.png", "t")
    curves, cost = figure.axes
    assert [line.get_label() for line in curves.lines[-2:]] == ["mean need: 68.3", "envelope: 75.0"]
    assert curves.lines[-1].get_ydata().tolist() == [100, 50, 50]
    assert [next(iter(line.get_xdata())) for line in cost.lines] == [55, 75, 75, 69]
    one = compared(np.ones(200), np.ones(200))
    figure = page.draw_arms(
        [one, dataclasses.replace(one, bound=Bound("mean_tokens", 5.0))], tmp_path / "arms.png", "t"
    )
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["5", "9"]
    assert all(matplotlib.image.imread(tmp_path / f"{name}.png").std() > 0 for name in ("needs", "arms"))


def test_a_policy_that_is_not_adaptive_is_refused(here, checkpoint, capsys, no_model):
    words = [f"model.path={checkpoint}", "policy=fixed"]
    refused(["adaptivity", *words], ["policy=fixed is not adaptive"], capsys, here)
    for option in ("shuffles", "budgets"):
        refused(["adaptivity", words[0], f"--{option}", "0"], [f"--{option} 0 must be at least 1"], capsys, here)
    refused(["adaptivity", words[0], "--grid", "1"], ["--grid 1 must be at least 2"], capsys, here)


@pytest.mark.parametrize("budget", ["none", "official"])
def test_a_budget_that_cannot_be_chosen_must_be_typed(budget, here, checkpoint, capsys, no_model):
    argv = ["adaptivity", f"model.path={checkpoint}", f"budget={budget}", "recovery=cluster_merge"]
    refused(argv, [f"budget={budget}", "type budget.flops_ratio=RATIO"], capsys, here)
