"""examples/my_policies, as an outsider would use it: installed, checked, measured, saved and loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune_lab.plugins.parts import PackagesError
from autoprune_lab.pruner import Pruner
from autoprune_lab.pruner_file import plain
from search.cli import main
from search.config.compose import compose
from search.config.experiment import Experiment

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_policies"
PARTS = ("policy=early_cut", "scorer=peak_attention", "complexity=concentration", "recovery=keep_spread")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip installed it, from a copy: setuptools writes beside the sources."""
    copy = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "my_policies")
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *offline, str(copy)], check=True)
    return target


@pytest.fixture
def outside(installed, here, monkeypatch):
    """An empty current folder, with the package importable in this process; its configurations."""
    monkeypatch.syspath_prepend(installed)
    return installed / "my_policies" / "conf"


def test_the_command_finds_it_installed_and_says_where_its_configurations_are(installed, here):
    paths = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, "-m", "search.cli", "check", "my_policies"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n4 plug-ins: 35 ok\n" in done.stdout
    assert done.stdout.endswith(f"configurations of my_policies: --config-dir {installed / 'my_policies' / 'conf'}\n")


def test_its_parts_are_measured_together(outside, capsys):
    words = ["evaluate", *PARTS, "--config-dir", str(outside), "task.per_kind=1", "--no-baseline"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "model  embedded:shapes-s0" in shown
    assert "policy EarlyCutPolicy(depth=0.25, gain=0.5)" in shown
    assert "mean of kinds" in shown


def test_its_method_is_these_parts_and_its_space_is_searched(outside):
    settings = compose(["method=mine", "scorer=peak_attention"], [outside])
    assert settings.config["pruner"] == compose(PARTS, [outside]).config["pruner"]
    assert set(settings.config["space"]["pruner"]["policy"]) == {"depth", "gain"}


def test_its_pruner_is_saved_and_loaded_by_who_names_the_package(outside, here):
    pruner = Experiment.compose(PARTS, [outside]).pruner()
    pruner.save(here / "tuned.yaml")
    assert plain(Pruner.load(here / "tuned.yaml", packages=["my_policies"])) == plain(pruner)
    with pytest.raises(PackagesError, match=r"packages=\['my_policies'\] if you trust that code"):
        Pruner.load(here / "tuned.yaml")
