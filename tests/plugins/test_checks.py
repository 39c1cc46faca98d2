"""The contracts, run: on all that is built in, by the command and by the pytest plugin."""

import subprocess
import sys

import pytest
from contract_outcomes import outcomes

from autoprune_lab.plugins.checks import FAILED, NO_CONFIG, OK, checks_of
from search.cli import main

GOOD = '''"""A scorer of a user's own."""

from autoprune_lab.selection.scorers import Evidence, Float, Tensor


def last_row(evidence: Evidence) -> Float[Tensor, "batch vision"]:
    """Attention that the last prompt token pays."""
    return evidence.last_row_mean
'''
BAD = GOOD.replace("evidence.last_row_mean", "evidence.last_row_mean / 0")


@pytest.mark.parametrize("check", [*checks_of("policies"), *checks_of("autoprune_lab")], ids=str)
def test_what_is_built_in_keeps_its_contract(check):
    assert check.outcome() == (OK, "")


@pytest.fixture
def package(here):
    """Writes the one module of a package in the current folder."""

    def write(text):
        (here / "one_scorer.py").write_text(text)
        sys.modules.pop("one_scorer", None)

    return write


def test_a_plug_in_without_a_configuration_is_told(package, here):
    package(GOOD)
    found = outcomes(here / "one_scorer")["last_row"]
    no_config = found.pop("config_agrees")
    assert no_config == (NO_CONFIG, "there is no conf/scorer/last_row.yaml inside or beside one_scorer")
    assert set(found.values()) == {(OK, "")}


def test_what_a_plug_in_raises_is_told_with_its_place(package, here):
    package(GOOD.replace("evidence.last_row_mean", "evidence.last_rows"))
    why = "AttributeError: 'Evidence' object has no attribute 'last_rows' (one_scorer.py:8)"
    assert outcomes(here / "one_scorer")["last_row"]["pure"] == (FAILED, why)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no package 'one_scorer', neither installed nor in this folder"),
        ("", "one_scorer holds no policy, scorer, complexity estimator or recovery: "),
        ("1 / 0", "one_scorer cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "one_scorer cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
    ],
)
def test_a_package_without_plug_ins_is_one_line(text, words, package, capsys):
    if text is not None:
        package(text)
    assert main(["check", "one_scorer"]) == 2
    assert capsys.readouterr().err.startswith(f"autoprune: {words}")


def test_the_command_tells_what_failed(package, capsys):
    package(BAD)
    assert main(["check", "one_scorer"]) == 1
    shown = capsys.readouterr().out.splitlines()
    point = "one_scorer.last_row: finite scores that differ"
    assert f"failed     {point}: gives 113 of 113 visual tokens a score that is not finite" in shown
    assert "ok         one_scorer.last_row: pure" in shown
    assert shown[-1] == "1 plug-in: 5 ok, 1 no config, 1 failed"


def test_the_pytest_plugin_makes_each_point_a_test(package):
    package(BAD)
    plugin = ["-p", "autoprune_lab.plugins.pytest_plugin", "--autoprune-package", "one_scorer"]
    words = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *plugin]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 5 passed, 1 skipped" in done.stdout
    assert "PASSED ::one_scorer.last_row: pure" in done.stdout


def test_asking_for_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, autoprune_lab.plugins.pytest_plugin;"
        "sys.exit(any(name in sys.modules for name in ('pytest', 'torch', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
