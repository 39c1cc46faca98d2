"""The contract of a policy, run on every policy in the packages named by --policies (default: policies).

Check your own with `pytest tests/plugins/test_policies.py --policies my_package`. A `conf/policy/<file>.yaml` inside
or beside the package must agree with the dataclass; the shelf's own policies must have one.
"""

import ast
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

import autoprune_lab as ap
from autoprune_lab.plugins.discovery import find_policies
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.policy import Policy, Signal, check_shape

LAYERS = (2, 12, 16, 24, 32, 80)
COMPLEXITIES = (-1e-9, 0.0, 0.01, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0, 50.0)  # bits; below 0 by rounding only
WAYS = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)  # bounds, as the part of the way from a policy's floor to 1
PROBE = 2  # the first layer in which pruning is free
LIBRARIES = {"numpy", "math", "typing", "collections", "dataclasses", "jaxtyping", "__future__"}
CONTRACT = {"autoprune_lab.schedule.policy", "autoprune_lab.schedule.curve"}


def pytest_generate_tests(metafunc):
    packages = metafunc.config.getoption("--policies") or ["policies"]
    if "package" in metafunc.fixturenames:
        metafunc.parametrize("package", packages)
    if "policy_class" in metafunc.fixturenames:
        policies = [policy for package in packages for policy in find_policies(package)]
        metafunc.parametrize("policy_class", policies, ids=lambda policy: policy.__name__)


def source(policy_class) -> Path:
    return Path(inspect.getfile(policy_class))


def configs(policy_class) -> list[Path]:
    """conf/policy/<file>.yaml, wherever it exists inside or beside the package."""
    file, depth = source(policy_class), policy_class.__module__.count(".")
    found = [folder / "conf" / "policy" / f"{file.stem}.yaml" for folder in file.parents[: depth + 1]]
    return [path for path in found if path.exists()]


def signals():
    return [Signal(n_layers, bits) for n_layers in LAYERS for bits in COMPLEXITIES]


def geometry(n_layers: int) -> Geometry:
    return Geometry(n_layers, 4096, 11008, 32, 32, 128, n_vision=576, n_text=64)


def fits(policy: Policy, n_layers: int):
    """(shapes, bounds, tokens): every complexity, at bounds from the highest floor up to 1."""
    sizes, shapes = (
        geometry(n_layers),
        np.stack([policy.shape(Signal(n_layers, bits)) for bits in COMPLEXITIES]),
    )
    least = max(Budget(flops_ratio=1.0).floor(shape, sizes, PROBE) for shape in shapes)
    bounds = [least + way * (1 - least) for way in WAYS]
    each = [sizes] * len(shapes)
    return shapes, bounds, [Budget(flops_ratio=bound).fit_batch(shapes, each, PROBE) for bound in bounds]


def test_the_package_holds_policies(package):
    assert find_policies(package)


def test_default_constructible_frozen_and_hashable(policy_class):
    policy = policy_class()
    assert hash(policy) == hash(policy_class())
    assert policy == policy_class()
    assert dataclasses.is_dataclass(policy)
    assert policy_class.__dataclass_params__.frozen


def test_shape_keeps_the_contract(policy_class):
    policy = policy_class()
    for signal in signals():
        check_shape(policy.shape(signal), signal, policy)


def test_shape_is_pure(policy_class):
    policy = policy_class()
    first = [policy.shape(signal).tolist() for signal in signals()]
    for signal, shape in zip(reversed(signals()), reversed(first), strict=True):
        before = dataclasses.astuple(signal)
        given = policy.shape(signal)
        assert given.tolist() == shape
        given[:] = -1.0  # the array is the caller's own, not one the policy keeps
        assert dataclasses.astuple(signal) == before
        assert policy.shape(signal).tolist() == shape
    assert policy == policy_class()


def test_adaptive_is_told_truly(policy_class):
    policy = policy_class()
    changes = [
        policy.shape(Signal(n_layers, bits)).tolist() != policy.shape(Signal(n_layers)).tolist()
        for n_layers in LAYERS
        for bits in COMPLEXITIES
    ]
    assert any(changes) == policy_class.adaptive


@pytest.mark.parametrize("n_layers", LAYERS)
def test_never_over_the_budget_and_uses_it(policy_class, n_layers):
    shapes, bounds, plans = fits(policy_class(), n_layers)
    for bound, plan in zip(bounds, plans, strict=True):
        for shape, tokens in zip(shapes, plan, strict=True):
            used = flops_ratio(geometry(n_layers), tokens)
            assert used <= bound
            if (tokens[shape > 0] < 576).any():  # not every layer that wants tokens is full
                assert used >= 0.99 * bound


@pytest.mark.parametrize("n_layers", LAYERS)
def test_more_budget_never_keeps_less(policy_class, n_layers):
    _, _, plans = fits(policy_class(), n_layers)
    assert (np.diff(plans, axis=0) >= 0).all()


def test_a_generous_budget_is_reachable(policy_class):
    for signal in signals():
        if signal.n_layers >= 12:  # in two layers, one that stays full is half of everything
            Budget(flops_ratio=0.9).fit(policy_class().shape(signal), geometry(signal.n_layers), PROBE)


def test_docstring_names_the_source(policy_class):
    assert "Source:" in (policy_class.__doc__ or "")


def test_file_is_short(policy_class):
    assert len(source(policy_class).read_text().splitlines()) <= 40


def test_file_imports_only_numpy_and_the_contract(policy_class):
    nodes = list(ast.walk(ast.parse(source(policy_class).read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {"." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)}
    outer = {name.partition(".")[0] for name in plain | named if not name.startswith(("autoprune_lab", "."))}
    assert outer <= LIBRARIES
    assert {name for name in plain | named if name.startswith(("autoprune_lab", "."))} <= CONTRACT | {ap.__name__}
    doors = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == ap.__name__]
    assert {ap._HOMES[alias.name] for node in doors for alias in node.names} <= CONTRACT


def test_config_agrees_with_the_dataclass(policy_class):
    found, policy = configs(policy_class), policy_class()
    assert found or not policy_class.__module__.startswith("policies."), "a policy of the shelf needs its yaml"
    for config in found:
        values = yaml.safe_load(config.read_text())
        assert values.pop("_target_") == f"{policy_class.__module__}.{policy_class.__qualname__}"
        assert set(values) == {field.name for field in dataclasses.fields(policy)}
        assert policy_class(**values) == policy
