"""The contract of a policy, point by point: each takes the class, and raises where an instance does not keep it."""

import ast
import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from autoprune_lab.plugins.requirements import check_config, module_file, require
from autoprune_lab.schedule import curve, policy
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.schedule.flops import flops_ratio
from autoprune_lab.schedule.geometry import Geometry
from autoprune_lab.schedule.policy import Policy, Signal, check_shape

LAYERS = (2, 12, 16, 24, 32, 80)
COMPLEXITIES = (-1e-9, 0.0, 0.01, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0, 50.0)  # bits; below 0 by rounding only
WAYS = (0.0, 0.05, 0.2, 0.5, 0.8, 1.0)  # bounds, as the part of the way from a policy's floor to 1
N_VISION = 576
PROBE = 2  # the first layer in which pruning is free
GENEROUS = 0.9  # a budget that every policy of 12 layers or more must be able to keep
LEAST_SPENT = 0.99  # of a budget, where a layer that wants tokens is not full
MOST_LINES = 40
LIBRARIES = ("numpy", "math", "typing", "collections", "dataclasses", "jaxtyping", "__future__")
CONTRACT = {module.__name__: module for module in (policy, curve)}


def frozen_and_hashable(kind: type[Policy]) -> None:
    """Two instances made without arguments are one value."""
    parameters = getattr(kind, "__dataclass_params__", None)
    require(parameters is not None and parameters.frozen, "is no frozen dataclass: write @dataclass(frozen=True)")
    require(kind() == kind() and hash(kind()) == hash(kind()), "two instances with the default fields are not equal")


def valid_shape(kind: type[Policy]) -> None:
    """`check_shape` at every depth and complexity."""
    for signal in _signals():
        check_shape(kind().shape(signal), signal, kind())


def pure(kind: type[Policy]) -> None:
    """The same signal gives the same shape, in an array of the caller's own, and nothing is changed."""
    one = kind()
    first = [(signal, one.shape(signal).tolist()) for signal in _signals()]
    for signal, shape in reversed(first):
        before = dataclasses.astuple(signal)
        given = one.shape(signal)
        require(given.tolist() == shape, f"another shape when {signal} is asked again")
        given[:] = -1.0
        require(one.shape(signal).tolist() == shape, f"gives an array that it keeps, at {signal}: give a new one")
        require(dataclasses.astuple(signal) == before, f"changes its signal: {before} became {signal}")
    require(one == kind(), "changes its own fields")


def adaptive_told_truly(kind: type[Policy]) -> None:
    """`adaptive` is true if, and only if, some complexity changes the shape."""
    one = kind()
    differs = [s for s in _signals() if one.shape(s).tolist() != one.shape(Signal(s.n_layers)).tolist()]
    why = f"the shape changes at {differs[0]}" if differs else "no complexity changes the shape"
    require(bool(differs) == kind.adaptive, f"adaptive is {kind.adaptive}, but {why}")


def budget_is_kept_and_spent(kind: type[Policy]) -> None:
    """At most the bound, at least 99 % of it unless every layer that wants tokens is full."""
    for n_layers in LAYERS:
        shapes, bounds, plans = _fits(kind(), n_layers)
        for bound, plan in zip(bounds, plans, strict=True):
            for shape, tokens in zip(shapes, plan, strict=True):
                used, where = flops_ratio(_geometry(n_layers), tokens), f"of a budget of {bound} in {n_layers} layers"
                require(used <= bound, f"spends {used} {where}")
                is_full = (tokens[shape > 0] == N_VISION).all()
                require(bool(is_full) or used >= LEAST_SPENT * bound, f"spends only {used} {where}")


def more_budget_never_keeps_less(kind: type[Policy]) -> None:
    """No layer has fewer tokens under a higher bound."""
    for n_layers in LAYERS:
        _, bounds, plans = _fits(kind(), n_layers)
        for i, falls in enumerate(np.diff(plans, axis=0) < 0):
            words = f"keeps less under a budget of {bounds[i + 1]} than of {bounds[i]}"
            require(not falls.any(), f"a layer of {n_layers} {words}")


def generous_budget_is_reachable(kind: type[Policy]) -> None:
    """What stays full leaves room for a budget of 0.9."""
    for signal in _signals():
        if signal.n_layers >= 12:  # in two layers, one that stays full is half of everything
            Budget(flops_ratio=GENEROUS).fit(kind().shape(signal), _geometry(signal.n_layers), PROBE)


def source_is_named(kind: type[Policy]) -> None:
    """The docstring says where the idea is from."""
    require("Source:" in (kind.__doc__ or ""), "its docstring has no line 'Source: ...'")


def file_is_short(kind: type[Policy]) -> None:
    """A policy is read at a glance."""
    n_lines = len(module_file(kind).read_text(encoding="utf-8").splitlines())
    require(n_lines <= MOST_LINES, f"its file has {n_lines} lines, at most {MOST_LINES}: move what is not the curve")


def imports_only_the_contract(kind: type[Policy]) -> None:
    """No torch, no model, no other file: of autoprune_lab only what says a shape."""
    nodes = list(ast.walk(ast.parse(module_file(kind).read_text(encoding="utf-8"))))
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in (node for node in nodes if isinstance(node, ast.ImportFrom)):
        module = "." * node.level + (node.module or "")
        of_door = [f"{module}.{a.name}" for a in node.names if not any(hasattr(m, a.name) for m in CONTRACT.values())]
        named += of_door if module == "autoprune_lab" else [module]
    for name in named:
        allowed = name in CONTRACT or name.partition(".")[0] in LIBRARIES
        require(allowed, f"imports {name}: allowed are {', '.join(LIBRARIES)}, from autoprune_lab what says a shape")


def config_agrees(kind: type[Policy]) -> None:
    """conf/policy/FILE.yaml, named as the policy's file is."""
    check_config(kind, "policy", module_file(kind).stem, Policy)


POINTS = (
    frozen_and_hashable,
    valid_shape,
    pure,
    adaptive_told_truly,
    budget_is_kept_and_spent,
    more_budget_never_keeps_less,
    generous_budget_is_reachable,
    source_is_named,
    file_is_short,
    imports_only_the_contract,
    config_agrees,
)


def _signals() -> Iterator[Signal]:
    return (Signal(n_layers, bits) for n_layers in LAYERS for bits in COMPLEXITIES)


def _geometry(n_layers: int) -> Geometry:
    return Geometry(n_layers, 4096, 11008, 32, 32, 128, n_vision=N_VISION, n_text=64)


def _fits(
    one: Policy, n_layers: int
) -> tuple[Float[np.ndarray, "samples layers"], list[float], Int[np.ndarray, "bounds samples layers"]]:
    """(shapes, bounds, tokens): every complexity, at bounds from the highest floor up to 1."""
    sizes = _geometry(n_layers)
    shapes = np.stack([one.shape(Signal(n_layers, bits)) for bits in COMPLEXITIES])
    least = max(Budget(flops_ratio=1.0).floor(shape, sizes, PROBE) for shape in shapes)
    bounds = [least + way * (1 - least) for way in WAYS]
    each = [sizes] * len(shapes)
    return shapes, bounds, np.stack([Budget(flops_ratio=bound).fit_batch(shapes, each, PROBE) for bound in bounds])
