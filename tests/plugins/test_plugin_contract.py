"""The contracts of scorers, estimators and recoveries, tested: good ones pass in a user's package, bad ones do not."""

import re

import pytest
from contract_outcomes import failures_of, outcomes

from autoprune_lab.plugins.checks import OK
from autoprune_lab.plugins.evidence_checks import POINTS

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

DIFFER, IN_A_BATCH = "finite_scores_that_differ", "same_alone_and_in_a_batch"
BAD = {  # name: (group, template, what stands in it, the point that must catch it)
    "hasty_scorer": (
        "scorer", SCORER, {"body": "return torch.rand(evidence.vision_mask.shape)"}, "pure"
    ),
    "drawing_estimator": (
        "complexity", ESTIMATOR, {"body": "torch.rand(1); return evidence.attention.sum((1, 2, 3))"},
        "uses_no_random_state",
    ),
    "vandal_scorer": (
        "scorer", SCORER,
        {"body": "hidden = evidence.hidden.nan_to_num_(); return hidden.norm(dim=-1)"}, "pure",
    ),
    "vandal_estimator": (
        "complexity", ESTIMATOR, {"body": "return evidence.text.mul_(2).sum((1, 2)).double()"}, "pure",
    ),
    "hoarding_scorer": (
        "scorer", SCORER,
        {"body": "SEEN.append(1); return evidence.attention.mean(1).sum(1) * len(SEEN)"}, "pure",
    ),
    "placed_scorer": (
        "scorer", SCORER, {"body": "return evidence.vision_mask.cumsum(1) ** -power"}, "order_is_told",
    ),
    "boasting_scorer": (
        "scorer", SCORER, {"body": SCORE, "doc": DOC + "\n\n    Order: none, really.\n    "}, "order_is_told",
    ),
    "flat_scorer": ("scorer", SCORER, {"body": "return evidence.attention.sum((1, 2)) * 0"}, DIFFER),
    "nan_scorer": ("scorer", SCORER, {"body": "return evidence.attention.sum((1, 2)).log() / 0"}, DIFFER),
    "crowd_scorer": (
        "scorer", SCORER, {"body": "x = evidence.attention.sum((1, 2)); return x / x.sum()"}, IN_A_BATCH,
    ),
    "padded_estimator": (
        "complexity", ESTIMATOR, {"body": "return evidence.attention.mean((1, 2, 3)) * 100"}, IN_A_BATCH,
    ),
    "wide_estimator": (
        "complexity", ESTIMATOR, {"body": "return evidence.attention.sum((1, 2, 3)).sum(0, keepdim=True)"},
        "finite_number_per_sample",
    ),
    "drifted_scorer": ("scorer", SCORER, {"body": SCORE}, "config_agrees"),
    "unsourced_scorer": (
        "scorer", SCORER, {"body": SCORE, "doc": DOC + " After arXiv 2403.06764."}, "docstring_is_complete",
    ),
    "Crowded": (
        "recovery", RECOVERY,
        {
            "split": SPLIT,
            "body": f"{REST}; most = evidence.index.amax(); "
            "return Survivors(keep | worst, evidence.hidden + most * worst[..., None])",
        },
        IN_A_BATCH,
    ),
    "Greedy": (
        "recovery", RECOVERY, {"split": SPLIT, "body": "return Survivors(best(evidence, scores, kept))"},
        "planned_tokens_stay",
    ),
    "Inventor": (
        "recovery", RECOVERY,
        {"split": "return allowed // 2, allowed - allowed // 2", "body": f"{REST}; return Survivors(keep | worst)"},
        "split_within_what_is_dropped",
    ),
    "Upside": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": "return Survivors(best(evidence, -scores, kept + merged))"}, "best_stay_unchanged",
    ),
    "Fading": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": f"{REST}; return Survivors(keep | worst, evidence.hidden * 0.5)"},
        "best_stay_unchanged",
    ),
    "Widening": (
        "recovery", RECOVERY,
        {"split": SPLIT, "body": f"{REST}; return Survivors(keep | worst, evidence.hidden.float())"}, "dtype_is_kept",
    ),
    "Doubling": (
        "recovery", RECOVERY,
        {
            "split": SPLIT,
            "body": f"{REST}; return Survivors(keep | worst, None, evidence.index.clamp(max=30))",
        },
        "planned_tokens_stay",
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


def test_good_plug_ins_of_a_users_own_package_pass(tmp_path):
    for name, (group, template, parts) in GOOD.items():
        write(tmp_path / "my_parts", group, template, name, parts)
    found = outcomes(tmp_path / "my_parts")
    assert found.keys() == GOOD.keys()
    for name, (group, *_) in GOOD.items():
        points = next(points for contract, points in POINTS.items() if contract.group == group)
        assert found[name] == {point.__name__: (OK, "") for point in points}


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Plug-in -> point -> why, of a package in which every plug-in is bad in its own way."""
    package = tmp_path_factory.mktemp("user") / "bad_parts"
    for name, (group, template, parts, _) in BAD.items():
        write(package, group, template, name, parts, drifted=name == "drifted_scorer")
    return failures_of(package)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plug_in_is_caught(failures, name):
    assert BAD[name][3] in failures[name]
    assert all(why and "\n" not in why for why in failures[name].values())


ONE_FAULT = ("drifted_scorer", "unsourced_scorer", "boasting_scorer", "placed_scorer", "drawing_estimator", "Inventor")


@pytest.mark.parametrize("name", ONE_FAULT)
def test_a_plug_in_with_one_fault_fails_one_point(failures, name):
    assert list(failures[name]) == [BAD[name][3]]


def test_every_point_is_broken_by_one_of_them():
    assert {bad[3] for bad in BAD.values()} == {point.__name__ for points in POINTS.values() for point in points}


def test_value_and_bound_are_told(failures):
    assert "gives numbers of shape (1,), expected (4,)" in failures["wide_estimator"]["finite_number_per_sample"]
    assert "tokens stay, planned are [24, 9, 12, 0]" in failures["Greedy"]["planned_tokens_stay"]
    assert "hidden states of torch.float32 for torch.bfloat16" in failures["Widening"]["dtype_is_kept"]
    assert "power=3.0" in failures["drifted_scorer"]["config_agrees"]
