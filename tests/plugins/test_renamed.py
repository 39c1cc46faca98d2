"""Names that code had before it moved: files that say them are read, and nothing else is let in by them."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from autoprune_lab.plugins.discovery import near_miss, package_of, targets
from autoprune_lab.plugins.parts import PackagesError, PartError, make
from autoprune_lab.plugins.renamed import RENAMED, former, renamed
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.config.paths import leaves

PRUNERS = sorted((Path(__file__).parents[1] / "data" / "before_rooms" / "pruners").glob("*.yaml"))
LATER = {"recovery.compare": "hidden", "recovery.added": False, "recovery.double": False}
"""Fields that are newer than the files, and the values that do what was done before there were others."""
PRUNER = {"_target_": "autoprune_lab.pruner.Pruner", "policy": {"_target_": "policies.fixed.FixedPolicy"}}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_leads_to_code_that_is_there_in_the_same_package_and_not_under_the_old_name(old, new):
    module, _, name = new.rpartition(".")
    assert getattr(import_module(module), name).__module__ == module
    assert package_of(old) == package_of(new)
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        getattr(import_module(old.rpartition(".")[0]), name)


def test_names_are_changed_wherever_they_stand_and_nothing_else_is():
    old, new = "autoprune_lab.scoring.random", "autoprune_lab.selection.scorers.random"
    node = {"_target_": old, "choices": [old, "random", 3, None], "pinned": (f"a._target_={old}", f"{old}.x"), old: 1.5}
    assert renamed(node) == {
        "_target_": new,
        "choices": [new, "random", 3, None],
        "pinned": [f"a._target_={new}", f"{old}.x"],
        old: 1.5,
    }
    assert former(node) == {new: old}
    assert former(renamed(node)) == {}


@pytest.mark.parametrize("file", PRUNERS, ids=lambda file: file.stem)
def test_a_pruner_s_file_of_before_is_read(file):
    """What it says is what the pruner is; a field that is newer than the file is unset, or does what was done."""
    now, then = leaves(plain(Pruner.load(file))), leaves(renamed(yaml.safe_load(file.read_text())))
    assert then.items() <= now.items()
    assert all(now[path] == LATER.get(path) for path in now.keys() - then.keys())


def test_every_part_of_a_pruner_that_moved_is_in_one_of_those_files():
    said = {name for file in PRUNERS for name in targets(yaml.safe_load(file.read_text()))}
    assert said & RENAMED.keys() == {name for name in RENAMED if package_of(name) == "autoprune_lab"}


@pytest.mark.parametrize(
    ("name", "packages", "said"),
    [
        ("autoprune_lab.scoring._hidden", [], "names no part"),
        ("autoprune_lab.scoring.random.__globals__", [], "names no part"),
        ("autoprune_lab.scoring.np", [], "was not found"),
        ("autoprune_lab.budget.Budget", [], "a function is taken with `_partial_: true` only"),
        ("autoprune_lab.complexity.constant", [], "expected a scorer"),
        ("search.launchers.LocalLauncher", ["search"], "a function is taken"),
        ("search.samplers.qmc", ["search"], "expected a scorer"),
    ],
)
def test_an_old_name_opens_no_door(name, packages, said):
    with pytest.raises(PartError, match=said):
        make(PRUNER | {"scorer": {"_target_": name, "_partial_": True}}, Pruner, packages)


def test_code_of_another_package_must_still_be_named():
    with pytest.raises(PackagesError, match=r"needs code of search, such as search.study.samplers.qmc"):
        make(PRUNER | {"scorer": {"_target_": "search.samplers.qmc", "_partial_": True}}, Pruner)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("autoprune_lab.scoring.text_atention", "autoprune_lab.selection.scorers.text_attention"),
        ("autoprune_lab.scorin.text_attention", "autoprune_lab.selection.scorers.text_attention"),
        ("autoprune_lab.mean_budget.MeanBudgt", "autoprune_lab.schedule.mean_budget.MeanBudget"),
        ("search.launcher.LocalLauncher", "search.study.launchers.LocalLauncher"),
        ("search.tracking.MlflowTraking", "search.tracking.settings.MlflowTracking"),
        ("autoprune_lab.scoring.zzz", None),
    ],
)
def test_a_mistyped_old_name_is_answered_with_the_new_one(name, near):
    assert near_miss(name) == near
