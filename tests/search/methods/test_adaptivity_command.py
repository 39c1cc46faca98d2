"""`autoprune adaptivity` on a narrow model."""

from fake_evaluator import refused

from search.cli import main
from search.config.compose import compose
from search.config.paths import select
from search.methods.adaptivity import twin_words


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


def test_it_answers_and_goes_on_where_it_was(here, checkpoint, capsys):
    words = [f"model.path={checkpoint}", "task.per_kind=1", "report.task.per_kind=1", "search.n_trials=1"]
    assert main(["adaptivity", *words, "--shuffles", "1"]) == 0
    first = capsys.readouterr().out
    for said in ("best fixed curve", "told the mean", "shuffled 0", "The adaptive policy is"):
        assert said in first
    assert {place.name for place in (here / "runs").glob("*-*")} == {
        "logistic_adaptive-adaptive",
        "logistic_adaptive-constant",
    }
    assert main(["adaptivity", *words, "--shuffles", "1"]) == 0
    assert capsys.readouterr().out == first


def test_a_policy_that_is_not_adaptive_is_refused(here, checkpoint, capsys, no_model):
    words = [f"model.path={checkpoint}", "policy=fixed"]
    refused(["adaptivity", *words], ["policy=fixed is not adaptive"], capsys, here)
    refused(["adaptivity", words[0], "--shuffles", "0"], ["--shuffles 0 must be at least 1"], capsys, here)
