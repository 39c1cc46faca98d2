"""The contract of a policy, tested: it passes a good one in a user's own package and catches bad ones."""

import numpy as np
import pytest
from contract_outcomes import failures_of, outcomes

from autoprune_lab.plugins import policy_checks
from autoprune_lab.plugins.checks import OK
from autoprune_lab.plugins.requirements import ContractError
from policies.fixed import FixedPolicy

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

BAD = {  # name: (what stands in the class, the point that must catch it)
    "Rising": ("return np.linspace(0.1, 0.9, signal.n_layers)", "valid_shape"),
    "NotANumber": ("return np.full(signal.n_layers, np.nan)", "valid_shape"),
    "Silent": (
        "return np.full(signal.n_layers, 2.0**-abs(signal.complexity))",
        "adaptive_told_truly",
    ),
    "Boaster": ("return np.ones(signal.n_layers)", "adaptive_told_truly"),
    "Shared": ("return KEPT.setdefault(signal.n_layers, np.ones(signal.n_layers))", "pure"),
    "Greedy": ("return np.full(signal.n_layers, np.inf)", "generous_budget_is_reachable"),
    "Drifted": (GOOD, "config_agrees"),
    "Unsourced": (GOOD, "source_is_named"),
    "Mutable": (GOOD, "frozen_and_hashable"),
    "Foreign": (GOOD, "imports_only_the_contract"),
    "Heavy": (GOOD, "imports_only_the_contract"),
    "Long": (GOOD + "\n" * 30 + "# the end", "file_is_short"),
}

EDITS = {  # what else makes it bad: (old, new) in its file
    "Boaster": ("    depth:", "    adaptive: ClassVar[bool] = True\n    depth:"),
    "Shared": ("@dataclass", "KEPT: dict = {}\n\n\n@dataclass"),
    "Unsourced": ("Source:", "From:"),
    "Mutable": ("(frozen=True)", ""),
    "Foreign": ("import numpy as np", "import json\n\nimport numpy as np"),
    "Heavy": ("import numpy as np", "import numpy as np\nfrom autoprune_lab import pruner"),
}


def write(package, name, body, depth=0.5, edit=("", "")):
    """One policy file of a package, and its config inside the package."""
    (package / "conf" / "policy").mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / f"{name.lower()}.py").write_text(FILE.format(name=name, body=body).replace(*edit))
    config = f"# @package pruner.policy\n_target_: {package.name}.{name.lower()}.{name}\ndepth: {depth}\n"
    (package / "conf" / "policy" / f"{name.lower()}.yaml").write_text(config)


def test_a_good_policy_of_a_users_own_package_passes(tmp_path):
    write(tmp_path / "my_halves", "Halving", GOOD)
    found = outcomes(tmp_path / "my_halves")["Halving"]
    assert list(found) == [point.__name__ for point in policy_checks.POINTS]
    assert set(found.values()) == {(OK, "")}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Policy -> point -> why, of a shelf on which every policy is bad in its own way."""
    package = tmp_path_factory.mktemp("user") / "bad_shelf"
    for name, (body, _) in BAD.items():
        write(package, name, body, depth=0.6 if name == "Drifted" else 0.5, edit=EDITS.get(name, ("", "")))
    return failures_of(package)


@pytest.mark.parametrize("policy", BAD)
def test_a_bad_policy_is_caught(failures, policy):
    assert BAD[policy][1] in failures[policy]
    assert all(why and "\n" not in why for why in failures[policy].values())


@pytest.mark.parametrize("policy", ["Silent", "Boaster", "Greedy", "Drifted", "Unsourced", "Foreign", "Heavy", "Long"])
def test_a_policy_with_one_fault_fails_one_point(failures, policy):
    assert list(failures[policy]) == [BAD[policy][1]]


def test_value_and_bound_are_told(failures):
    assert "depth=0.6" in failures["Drifted"]["config_agrees"]
    assert "depth': 0.5" in failures["Drifted"]["config_agrees"]
    assert "has 48 lines, at most 40" in failures["Long"]["file_is_short"]
    assert "imports json: allowed are numpy" in failures["Foreign"]["imports_only_the_contract"]
    assert "at layer 1: weights must be >= 0 and never rise" in failures["Rising"]["valid_shape"]
    assert "adaptive is False, but the shape changes at Signal(" in failures["Silent"]["adaptive_told_truly"]
    assert failures["Greedy"]["generous_budget_is_reachable"].startswith("BudgetError: budget flops_ratio=0.9")


WRONG_BUDGETS = [  # the point, tokens that a wrong `Budget` would give for a bound, what is told
    ("budget_is_kept_and_spent", lambda bound: 576, "spends 1.0 of a budget of 0."),
    ("budget_is_kept_and_spent", lambda bound: 1, "spends only 0."),
    ("more_budget_never_keeps_less", lambda bound: int(500 * (1 - bound)), "keeps less under a budget of 0."),
]


@pytest.mark.parametrize(("point", "tokens", "told"), WRONG_BUDGETS)
def test_a_budget_that_is_passed_not_spent_or_falls_is_caught(point, tokens, told, monkeypatch):
    """No policy can do that while `Budget` is right."""

    def fit_batch(self, shapes, geometries, free_from):
        return np.full(shapes.shape, tokens(self.flops_ratio))

    monkeypatch.setattr(policy_checks.Budget, "fit_batch", fit_batch)
    with pytest.raises(ContractError, match=told):
        getattr(policy_checks, point)(FixedPolicy)


def test_every_point_is_broken_by_one_of_them():
    broken = {point for _, point in BAD.values()} | {point for point, *_ in WRONG_BUDGETS}
    assert broken == {point.__name__ for point in policy_checks.POINTS}
