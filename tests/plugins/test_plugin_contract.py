"""The contract test of plug-ins, tested: it passes good ones in a user's own package and catches bad ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("test_plugins.py")

HEAD = '''"""Plug-ins of a user's own."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoprune_lab.evidence.evidence import Evidence
from autoprune_lab.selection.recovery import Survivors, best

SEEN = []

'''

SCORER = '''
def {name}(evidence: Evidence, power: float = 2.0) -> Float[Tensor, "batch vision"]:
    """{doc}"""
    {body}
'''

ESTIMATOR = '''
def {name}(evidence: Evidence) -> Float[Tensor, "batch"]:
    """{doc}"""
    {body}
'''

RECOVERY = '''
@dataclass(frozen=True)
class {name}:
    """{doc}"""

    share: float = 0.5

    def split(self, allowed, present):
        {split}

    def __call__(self, evidence: Evidence, scores: Tensor, kept: Tensor, merged: Tensor) -> Survivors:
        """Keep the best and the worst."""
        {body}
'''

DOC = "A measure that a user wants to try."
SCORE = "return evidence.attention.mean(1).sum(1) ** power"
BITS = "return evidence.attention.sum((1, 2, 3))"
SPLIT = "kept = np.where(allowed < present, allowed // 2, allowed); return kept, allowed - kept"
WORST = "worst = best(evidence, (-scores).masked_fill(keep, -torch.inf), merged)"
REST = f"keep = best(evidence, scores, kept); {WORST}"
GOOD = {
    "steep_scorer": ("scorer", SCORER, {"body": SCORE}),
    "mass_estimator": ("complexity", ESTIMATOR, {"body": BITS}),
    "BestAndWorst": ("recovery", RECOVERY, {"split": SPLIT, "body": f"{REST}; return Survivors(keep | worst)"}),
    "edge_scorer": (
        "scorer", SCORER,
        {
            "doc": DOC + "\n\n    Order: the first tokens count more.\n    ",
            "body": "return evidence.vision_mask.cumsum(1) ** -power",
        },
    ),
}  # fmt: skip

BAD = {  # name: (group, template, what stands in it, the test that must catch it)
    "hasty_scorer": (
        "scorer", SCORER, {"body": "return torch.rand(evidence.vision_mask.shape)"}, "nothing_is_changed"
    ),
    "vandal_scorer": (
        "scorer", SCORER,
        {"body": "hidden = evidence.hidden.nan_to_num_(); return hidden.norm(dim=-1)"}, "nothing_is_changed",
    ),
    "hoarding_scorer": (
        "scorer", SCORER,
        {"body": "SEEN.append(1); return evidence.attention.mean(1).sum(1) * len(SEEN)"}, "nothing_is_changed",
    ),
    "placed_scorer": (
        "scorer", SCORER, {"body": "return evidence.vision_mask.cumsum(1) ** -power"}, "an_order_that_matters",
    ),
    "boasting_scorer": (
        "scorer", SCORER, {"body": SCORE, "doc": DOC + "\n\n    Order: none, really.\n    "}, "an_order_that_matters",
    ),
    "flat_scorer": ("scorer", SCORER, {"body": "return evidence.attention.sum((1, 2)) * 0"}, "one_finite_score"),
    "nan_scorer": ("scorer", SCORER, {"body": "return evidence.attention.sum((1, 2)).log() / 0"}, "one_finite_score"),
    "crowd_scorer": (
        "scorer", SCORER, {"body": "x = evidence.attention.sum((1, 2)); return x / x.sum()"}, "a_sample_s_result",
    ),
    "padded_estimator": (
        "complexity", ESTIMATOR, {"body": "return evidence.attention.mean((1, 2, 3)) * 100"}, "a_sample_s_result",
    ),
    "wide_estimator": (
        "complexity", ESTIMATOR, {"body": "return evidence.attention.sum((1, 2, 3)).sum(0, keepdim=True)"},
        "one_finite_number",
    ),
    "drifted_scorer": ("scorer", SCORER, {"body": SCORE}, "config_agrees"),
    "unsourced_scorer": ("scorer", SCORER, {"body": SCORE, "doc": DOC + " After arXiv 2403.06764."}, "docstring"),
    "Greedy": (
        "recovery", RECOVERY, {"split": SPLIT, "body": "return Survivors(best(evidence, scores, kept))"},
        "exactly_the_planned",
    ),
    "Inventor": (
        "recovery", RECOVERY,
        {"split": "return allowed // 2, allowed - allowed // 2", "body": f"{REST}; return Survivors(keep | worst)"},
        "nothing_is_made",
    ),
    "Upside": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": "return Survivors(best(evidence, -scores, kept + merged))"}, "the_best_scored",
    ),
    "Fading": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": f"{REST}; return Survivors(keep | worst, evidence.hidden * 0.5)"}, "the_best_scored",
    ),
    "Widening": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": f"{REST}; return Survivors(keep | worst, evidence.hidden.float())"}, "hidden_states",
    ),
    "Doubling": (
        "recovery", RECOVERY,
        {
            "split": SPLIT,
            "body": f"{REST}; return Survivors(keep | worst, None, evidence.index.clamp(max=30))",
        },
        "exactly_the_planned",
    ),
}  # fmt: skip


def write(package, group, template, name, parts, drifted=False):
    """One module of a package with one plug-in, and its config inside the package."""
    stem = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    (package / "conf" / group).mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / f"{stem}_file.py").write_text(HEAD + template.format(name=name, **{"doc": DOC} | parts))
    fields = {"scorer": "_partial_: true\npower: 2.0\n", "complexity": "_partial_: true\n", "recovery": "share: 0.5\n"}
    text = f"# @package pruner.{group}\n_target_: {package.name}.{stem}_file.{name}\n{fields[group]}"
    (package / "conf" / group / f"{stem}.yaml").write_text(text.replace("2.0", "3.0") if drifted else text)


def check(package):
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", str(CONTRACT)]
    return subprocess.run([*command, "--plug-ins", package.name], cwd=package.parent, capture_output=True, text=True)


def test_good_plug_ins_of_a_users_own_package_pass(tmp_path):
    for name, (group, template, parts) in GOOD.items():
        write(tmp_path / "my_parts", group, template, name, parts)
    result = check(tmp_path / "my_parts")
    assert result.returncode == 0, result.stdout[-3000:]
    assert int(re.search(r"\b([0-9]+) passed", result.stdout)[1]) > 30
    assert "skipped" not in result.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the contract says of a package in which every plug-in is bad in its own way."""
    package = tmp_path_factory.mktemp("user") / "bad_parts"
    for name, (group, template, parts, _) in BAD.items():
        write(package, group, template, name, parts, drifted=name == "drifted_scorer")
    return check(package).stdout


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plug_in_is_caught(report, name):
    assert re.search(rf"FAILED .*::test_{BAD[name][3]}\w*\[.*{name}.*\]", report), report[-3000:]


@pytest.mark.parametrize("name", ["drifted_scorer", "unsourced_scorer", "boasting_scorer", "placed_scorer", "Inventor"])
def test_a_plug_in_with_one_fault_fails_one_test(report, name):
    failed = re.findall(rf"FAILED .*::test_(\w+)\[.*{name}.*\]", report)
    assert len(failed) == 1
    assert failed[0].startswith(BAD[name][3])
