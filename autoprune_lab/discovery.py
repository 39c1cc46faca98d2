"""Finds plug-ins: a policy is on a shelf because its file is there; no list names it."""

import importlib
import inspect
import pkgutil
from types import ModuleType

from autoprune_lab.policy import Policy


def find_policies(package: str) -> list[type[Policy]]:
    """Every concrete `Policy` defined in the importable `package` (or module), in order of its full name."""
    classes = {
        member
        for module in modules_of(package)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Policy) and not inspect.isabstract(member) and member.__module__ == module.__name__
    }
    return sorted(classes, key=lambda policy: (policy.__module__, policy.__qualname__))


def modules_of(package: str) -> list[ModuleType]:
    """The importable `package` (or module) and every module below it, imported."""
    root = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(getattr(root, "__path__", []), prefix=f"{package}.")]
    return [root, *map(importlib.import_module, names)]
