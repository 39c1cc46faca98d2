"""Published methods: each composes with every budget, has its published numbers without one, and runs."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.selection.recovery import merges
from policies.fixed import FixedPolicy
from search.config.catalogue import conf_dir
from search.config.compose import compose
from search.config.errors import ConfigError
from search.config.experiment import Experiment
from search.study.model_evaluator import open_evaluator

METHODS = [file.stem for file in sorted((conf_dir() / "method").glob("*.yaml"))]
BUDGETS = [file.stem for file in sorted((conf_dir() / "budget").glob("*.yaml"))]
LLAVA = Geometry(32, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)
every_method = pytest.mark.parametrize("method", METHODS)


@cache
def composed(*words):
    """Composed once, whoever asks."""
    return compose(words)


@cache
def pruner(*words):
    return Experiment(composed(*words)).pruner()


def plan(method, **bound):
    """Of one LLaVA-1.5-7B prompt at half a bit; no bound: the method's own curve."""
    arm = replace(pruner(f"method={method}", "budget=none"), budget=Budget(**bound) if bound else None)
    return arm.plan(np.array([0.5]), [LLAVA])


@pytest.fixture(scope="module")
def evaluator(checkpoint):
    """A narrow model and eight samples of 144 visual tokens."""
    given = Experiment.compose(["model=path", f"model.path={checkpoint}", "task.per_kind=1"])
    return open_evaluator(given.model, given.task, given.typed)


@pytest.mark.parametrize("budget", BUDGETS)
@every_method
def test_every_method_composes_with_every_budget(method, budget):
    words = f"method={method}", f"budget={budget}"
    assert composed(*words).choices["budget"] == budget
    if budget == "official" and not merges(pruner(f"method={method}").recovery):
        with pytest.raises(ConfigError, match=r"merged of those that it drops, and recovery .* makes none"):
            pruner(*words)
        return
    assert type(pruner(*words).budget) is type(pruner(f"budget={budget}", "recovery=cluster_merge").budget)


@every_method
def test_every_method_keeps_within_a_budget_of_flops_and_of_tokens(method):
    tokens = plan(method, mean_tokens=180).tokens
    assert 170 < tokens.mean() <= 180
    for ratio in (0.6, 0.8):
        assert 0.98 * ratio < flops_ratio(LLAVA, plan(method, flops_ratio=ratio).tokens[0]) <= ratio


@pytest.mark.parametrize(
    ("method", "cuts"),
    [
        ("none", {0: (576, 0)}),
        ("fastv", {0: (576, 0), 2: (288, 0)}),
        ("pdrop", {0: (576, 0), 8: (288, 0), 16: (144, 0), 24: (72, 0)}),
        ("fastervlm", {0: (144, 0)}),
        ("vispruner", {0: (64, 64)}),
        ("visionzip", {0: (54, 10)}),
        ("prumerge", {0: (0, 41)}),
        ("prumerge_plus", {0: (0, 144)}),
        ("tome", {0: (0, 192)}),
        ("pact", {0: (576, 0), 5: (0, 165)}),
        ("ficoco_l", {0: (576, 0)} | {11 + i: (0, 534 - 42 * i) for i in range(13)}),
        ("divprune", {0: (56, 0)}),
        ("dart", {0: (576, 0), 2: (4, 128)}),
        ("feather", {0: (576, 0), 8: (219, 0), 16: (19, 0)}),
        ("info_horizon", {0: (284, 0), 20: (38, 0)}),
        ("pooling", {0: (0, 144)}),
        ("vtw", {0: (576, 0), 15: (0, 0)}),
        ("window_uniform", {0: (576, 0), 2: (144, 0)}),
        ("evs", {0: (144, 0)}),
        ("vidcom2", {0: (144, 0)}),
        ("dycoke", {0: (0, 284)}),
        ("fastvid", {0: (0, 57)}),
        ("holitom", {0: (0, 57)}),
        ("mmr", {0: (144, 0)}),
        ("scope", {0: (64, 0)}),
        ("gprune", {0: (288, 0)}),
        ("cdpruner", {0: (64, 0)}),
        ("trim", {0: (119, 1)}),
        ("hiprune", {0: (4, 188)}),
        ("holov", {0: (0, 64)}),
        ("vla_pruner", {0: (576, 0), 4: (0, 144)}),
        ("sparsevlm", {0: (576, 0), 2: (291, 9), 6: (196, 4), 15: (107, 3)}),
    ],
)
def test_without_a_budget_the_published_numbers_come_out(method, cuts):
    found = plan(method)
    falls = [0, *(np.flatnonzero(np.diff(found.tokens[0])) + 1).tolist()]
    assert {layer: (found.kept[0, layer], found.merged[0, layer]) for layer in falls} == cuts


@pytest.mark.parametrize(("mean", "dominant", "contextual"), [(64, 54, 10), (128, 108, 20), (192, 162, 30)])
def test_visionzip_has_its_published_split_at_each_of_its_budgets(mean, dominant, contextual):
    found = plan("visionzip", mean_tokens=mean)
    assert (found.kept[0, 0], found.merged[0, 0]) == (dominant, contextual)
    assert (found.tokens == mean).all()


@pytest.mark.parametrize(
    "method",
    [
        "visionzip",
        "vispruner",
        "prumerge",
        "prumerge_plus",
        "tome",
        "pooling",
        "dycoke",
        "fastvid",
        "holitom",
        "trim",
        "hiprune",
        "holov",
    ],
)
def test_what_is_split_before_layer_0_is_not_split_again(method):
    found = plan(method, flops_ratio=0.37)
    assert (found.merged[0, 1:] == 0).all()
    assert (found.kept[0, 1:] == found.tokens[0, 0]).all()
    assert len(set(found.tokens[0].tolist())) == 1


@every_method
def test_every_method_runs(method, evaluator):
    words = ["pruner.budget.mean_tokens=40"] if "official" in method else []
    arm = evaluator.calibrated(pruner(f"method={method}", *words))
    records = evaluator.run(arm)
    ratios = [row.decoder_flops / row.unpruned_flops for row in records.rows]
    if method == "none":
        assert ratios == [1.0] * 8
    elif isinstance(arm.budget, MeanBudget):
        assert 0.45 < np.mean(ratios) <= 0.5
    elif isinstance(arm.budget, Budget):
        assert 0.45 < min(ratios) <= max(ratios) <= 0.5
    else:
        assert max(ratios) < 0.6


def test_the_narrow_model_tells_arms_apart(evaluator):
    """It answers a part of the questions, fewer with fewer tokens: what is wrong in a score shows in tests."""
    few, many = (Pruner(FixedPolicy(keep=keep)) for keep in (0.05, 0.8))
    few, many, whole = (evaluator.run(pruner).score for pruner in (few, many, None))
    assert 0 < few < many < whole < 1


@every_method
def test_a_method_s_file_names_its_source_and_its_settings(method):
    text = " ".join(re.findall("^# (.*)", (conf_dir() / "method" / f"{method}.yaml").read_text(), re.MULTILINE))
    assert re.search(r"arXiv \d{4}\.\d{5}|[Nn]o paper", text)
    assert "Published: " in text or "o paper" in text
    assert "budget" in text or method == "none"


@every_method
def test_the_docs_have_five_lines_on_every_method_and_a_command_that_composes(method):
    text = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()
    section = re.search(rf"^### `{method}`\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r"^- (\w+): ", section, re.MULTILINE) == ["Formula", "Defaults", "Source", "Differs", "Command"]
    (command,) = re.findall(r"`autoprune evaluate (.*)`", section)
    settings = compose(command.split())
    assert settings.choices["method"] == method
    Experiment(settings).pruner()
