"""A pruner leaves the lab as one YAML file."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import yaml

from autoprune_lab.evidence import complexity
from autoprune_lab.plugins.parts import PackagesError
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.selection import scorers
from autoprune_lab.selection.recovery import drop
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy
from policies.logistic_adaptive import LogisticAdaptivePolicy

GEOMETRY = Geometry(8, 64, 128, 4, 4, 16, n_vision=50, n_text=20)
PRUNERS = [
    Pruner(FixedPolicy(layer=3, keep=0.25)),
    Pruner(LayerwisePolicy((0.25, 0.5), (0.5, 0.1)), Budget(mean_tokens=30), scorers.cls_attention),
    Pruner(
        LogisticAdaptivePolicy(), Budget(flops_ratio=0.6), scorer=scorers.uniform,
        complexity=complexity.attention_entropy, recovery=drop, probe_layer=0,
    ),
]  # fmt: skip


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: type(p.policy).__name__)
def test_a_saved_pruner_comes_back_equal(pruner, tmp_path):
    pruner.save(tmp_path / "tuned.yaml")
    loaded = Pruner.load(str(tmp_path / "tuned.yaml"))
    assert loaded == pruner
    assert hash(loaded) == hash(pruner)


def test_bound_arguments_come_back(tmp_path):
    Pruner(FixedPolicy(), scorer=partial(scorers.random, seed=5)).save(tmp_path / "p.yaml")
    loaded = Pruner.load(tmp_path / "p.yaml")
    assert (loaded.scorer.func, loaded.scorer.keywords) == (scorers.random, {"seed": 5})


def test_hydra_reads_a_file_of_our_own_parts(tmp_path):
    from hydra.utils import instantiate

    pruner = PRUNERS[1]
    pruner.save(tmp_path / "p.yaml")
    built = instantiate(yaml.safe_load((tmp_path / "p.yaml").read_text()))
    assert (built.policy, built.budget, built.probe_layer) == (pruner.policy, pruner.budget, 1)
    assert built.scorer.func is scorers.cls_attention


def test_a_user_s_own_package_must_be_named(tmp_path, monkeypatch):
    (tmp_path / "my_shelf.py").write_text(
        "from dataclasses import dataclass\nfrom autoprune_lab.schedule.policy import Policy\n"
        "from autoprune_lab.schedule.curve import staircase\n\n@dataclass(frozen=True)\nclass Mine(Policy):\n"
        "    keep: float = 0.5\n"
        "    def shape(self, signal):\n        return staircase(signal.n_layers, [2], [self.keep])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_shelf

    pruner = Pruner(my_shelf.Mine(0.3))
    pruner.save(tmp_path / "p.yaml")
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["packages"] == ["my_shelf"]
    with pytest.raises(
        PackagesError, match=r"needs code of my_shelf, such as my_shelf.Mine: .*packages=\['my_shelf'\]"
    ):
        Pruner.load(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml", packages=["my_shelf"]) == pruner


def test_a_file_of_our_own_parts_names_no_packages_and_one_that_names_none_is_read(tmp_path):
    PRUNERS[0].save(tmp_path / "p.yaml")
    assert "packages" not in (tmp_path / "p.yaml").read_text()
    pruner = Pruner(Counting())
    pruner.save(tmp_path / "p.yaml")
    new = yaml.safe_load((tmp_path / "p.yaml").read_text())
    assert new.pop("packages") == [__name__]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(new))
    assert Pruner.load(tmp_path / "p.yaml", [__name__]) == pruner


def test_what_has_no_name_cannot_be_saved(tmp_path):
    class Local(FixedPolicy):
        pass

    for pruner in (Pruner(FixedPolicy(), scorer=lambda evidence: scorers.uniform(evidence)), Pruner(Local())):
        with pytest.raises(ValueError, match="cannot be saved"):
            pruner.save(tmp_path / "p.yaml")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"scorer: got .*no_scorer, expected a scorer"):
        Pruner(FixedPolicy(), scorer=no_scorer).save(tmp_path / "p.yaml")
    assert not list(tmp_path.iterdir())


def no_scorer(evidence):
    """Says neither what it takes nor what it gives."""


def test_numpy_numbers_are_saved_as_numbers(tmp_path):
    Pruner(FixedPolicy(layer=int(np.int64(4)), keep=np.float64(0.25))).save(tmp_path / "p.yaml")
    assert Pruner.load(tmp_path / "p.yaml") == Pruner(FixedPolicy(4, 0.25))


@dataclass(frozen=True)
class Counting(FixedPolicy):
    """Not adaptive: must be asked once a batch."""

    def shape(self, signal):
        calls.append(signal)
        return super().shape(signal)


calls = []


def test_plan_is_arithmetic_over_the_batch():
    geometries = [GEOMETRY, GEOMETRY.with_tokens(0, 9), GEOMETRY.with_tokens(24, 9)]
    pruner = Pruner(Counting(layer=0, keep=0.5), probe_layer=1)
    calls.clear()
    plan = pruner.plan(np.array([1.0, 0.0, 2.0]), geometries).tokens
    assert len(calls) == 1
    np.testing.assert_array_equal(plan[:, :3], [[50, 50, 25], [0, 0, 0], [24, 24, 12]])


def test_plan_fits_every_sample_with_its_own_complexity():
    pruner = Pruner(LogisticAdaptivePolicy(k0=2.0, gamma=1.0, x0=4.0), Budget(flops_ratio=0.7), probe_layer=1)
    geometries = [GEOMETRY, GEOMETRY.with_tokens(0, 9), GEOMETRY, GEOMETRY.with_tokens(30, 5)]
    bits = np.array([0.0, 0.0, 1.9, 0.5])
    plan = pruner.plan(bits, geometries).tokens
    for i in (0, 2, 3):
        np.testing.assert_array_equal(plan[i], pruner.plan(bits[i : i + 1], geometries[i : i + 1]).tokens[0])
    assert plan[1].sum() == 0
    assert (plan[0] != plan[2]).any()
