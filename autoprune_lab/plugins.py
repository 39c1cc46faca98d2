"""Finds the plug-ins that look at evidence, in any package: by what they take and what they give, no list names them.

Each is a public function, or a class whose instances are called, with `Evidence` as the first argument:

* a scorer gives `Float[Tensor, "batch vision"]` and needs no other argument,
* a complexity estimator gives `Float[Tensor, "batch"]` and needs no other argument,
* a recovery gives `Survivors` of (evidence, scores, kept, merged).
"""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_type_hints

from jaxtyping import Float
from torch import Tensor

from autoprune_lab.discovery import modules_of
from autoprune_lab.evidence import Evidence
from autoprune_lab.recovery import Survivors

Plugin = Callable[..., Any]


def find_scorers(package: str) -> list[Plugin]:
    """Every scorer defined in the importable `package` (or module), in order of its full name."""
    return _found(package, Float[Tensor, "batch vision"], n_arguments=1)


def find_estimators(package: str) -> list[Plugin]:
    """The same for complexity estimators."""
    return _found(package, Float[Tensor, "batch"], n_arguments=1)


def find_recoveries(package: str) -> list[Plugin]:
    """The same for recoveries."""
    return _found(package, Survivors, n_arguments=4)


def _found(package: str, gives: Any, n_arguments: int) -> list[Plugin]:
    plugins = {
        member
        for module in modules_of(package)
        for member in _public(module)
        if _fits(member if inspect.isfunction(member) else member.__call__, gives, n_arguments)
    }
    return sorted(plugins, key=lambda plugin: (plugin.__module__, plugin.__qualname__))


def _public(module: ModuleType) -> list[Any]:
    """Functions and classes whose home is this module."""
    members = [member for name, member in vars(module).items() if not name.startswith("_")]
    return [m for m in members if (inspect.isfunction(m) or inspect.isclass(m)) and m.__module__ == module.__name__]


def _fits(call: Any, gives: Any, n_arguments: int) -> bool:
    """Does it take evidence first, `n_arguments` without a default in all, and say that it gives that?"""
    if not inspect.isfunction(call):  # a class whose instances are not called
        return False
    try:
        hints = get_type_hints(call)
    except NameError:  # names that only type checkers import: none of the contract's
        return False
    parameters = [p for p in inspect.signature(call).parameters.values() if p.name != "self"]
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    looks = bool(parameters) and hints.get(parameters[0].name) is Evidence
    return looks and len(required) == n_arguments and _same(hints.get("return"), gives)


def _same(one: Any, other: Any) -> bool:
    """Two jaxtyping types are alike, not the same object."""

    def facts(kind: Any) -> Any:
        return [getattr(kind, name, kind) for name in ("array_type", "dim_str", "dtypes")]

    return bool(facts(one) == facts(other))
