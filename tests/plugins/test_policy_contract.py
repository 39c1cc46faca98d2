"""The contract test, tested: it passes a good policy in a user's own package and catches bad ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("test_policies.py")

FILE = '''"""A policy of a user's own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autoprune_lab.schedule.policy import Policy


@dataclass(frozen=True)
class {name}(Policy):
    """Halves what enters. Source: this test."""

    depth: float = 0.5

    def shape(self, signal):
        {body}
'''

GOOD = "return np.where(np.arange(signal.n_layers) < self.depth * signal.n_layers, 1.0, 0.25)"

BAD = {  # name: (what stands in the class, the test that must catch it)
    "Rising": ("return np.linspace(0.1, 0.9, signal.n_layers)", "test_shape_keeps_the_contract"),
    "NotANumber": ("return np.full(signal.n_layers, np.nan)", "test_shape_keeps_the_contract"),
    "Silent": (
        "return np.full(signal.n_layers, 2.0**-abs(signal.complexity))",
        "test_adaptive_is_told_truly",
    ),
    "Boaster": ("return np.ones(signal.n_layers)", "test_adaptive_is_told_truly"),
    "Shared": ("return KEPT.setdefault(signal.n_layers, np.ones(signal.n_layers))", "test_shape_is_pure"),
    "Greedy": ("return np.full(signal.n_layers, np.inf)", "test_a_generous_budget_is_reachable"),
    "Drifted": (GOOD, "test_config_agrees_with_the_dataclass"),
    "Unsourced": (GOOD, "test_docstring_names_the_source"),
    "Mutable": (GOOD, "test_default_constructible_frozen_and_hashable"),
    "Foreign": (GOOD, "test_file_imports_only_numpy_and_the_contract"),
    "Long": (GOOD + "\n" * 30 + "# the end", "test_file_is_short"),
}

EDITS = {  # what else makes it bad: (old, new) in its file
    "Boaster": ("    depth:", "    adaptive: ClassVar[bool] = True\n    depth:"),
    "Shared": ("@dataclass", "KEPT: dict = {}\n\n\n@dataclass"),
    "Unsourced": ("Source:", "From:"),
    "Mutable": ("(frozen=True)", ""),
    "Foreign": ("import numpy as np", "import json\n\nimport numpy as np"),
}


def write(package, name, body, depth=0.5, edit=("", "")):
    """One policy file of a package, and its config inside the package."""
    (package / "conf" / "policy").mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / f"{name.lower()}.py").write_text(FILE.format(name=name, body=body).replace(*edit))
    config = f"_target_: {package.name}.{name.lower()}.{name}\ndepth: {depth}\n"
    (package / "conf" / "policy" / f"{name.lower()}.yaml").write_text(config)


def check(package: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rf",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        str(CONTRACT),
    ]
    return subprocess.run([*command, "--policies", package.name], cwd=package.parent, capture_output=True, text=True)


def test_a_good_policy_of_a_users_own_package_passes(tmp_path):
    write(tmp_path / "my_shelf", "Halving", GOOD)
    result = check(tmp_path / "my_shelf")
    assert result.returncode == 0, result.stdout
    assert re.search(r"\b[0-9]+ passed", result.stdout)
    assert "skipped" not in result.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the contract says of a shelf on which every policy is bad in its own way."""
    package = tmp_path_factory.mktemp("user") / "bad_shelf"
    for name, (body, _) in BAD.items():
        write(package, name, body, depth=0.6 if name == "Drifted" else 0.5, edit=EDITS.get(name, ("", "")))
    return check(package).stdout


@pytest.mark.parametrize("policy", BAD)
def test_a_bad_policy_is_caught(report, policy):
    assert re.search(rf"FAILED .*::{BAD[policy][1]}\[{policy}\]", report), report[-3000:]


@pytest.mark.parametrize("policy", ["Silent", "Boaster", "Greedy", "Drifted", "Unsourced", "Foreign", "Long"])
def test_a_policy_with_one_fault_fails_one_test(report, policy):
    assert re.findall(rf"FAILED .*::(\w+)\[{policy}\]", report) == [BAD[policy][1]]
